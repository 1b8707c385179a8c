"""The private APIs of torch behave as they are used."""

import subprocess
import sys

import torch

from ser_platform.training.torch_compat import UncompiledAdamW

STEP = """
import sys, torch
from ser_platform.training.torch_compat import UncompiledAdamW
weight = torch.nn.Parameter(torch.ones(2))
optimizer = UncompiledAdamW([{"params": [weight]}])
weight.sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
sys.exit("torch._dynamo" in sys.modules)
"""


def test_an_optimizer_steps_without_importing_the_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, check=False)
    assert done.returncode == 0, "torch's optimizer imports the compiler again" + done.stderr


def test_steps_equal_those_of_adamw() -> None:
    ends = []
    for kind in (torch.optim.AdamW, UncompiledAdamW):
        weight = torch.nn.Parameter(torch.arange(3.0))
        optimizer = kind([{"params": [weight], "lr": 0.1, "weight_decay": 0.1}])
        for _ in range(3):
            optimizer.zero_grad()
            weight.square().sum().backward()
            optimizer.step()
        ends.append(weight.detach())
    assert torch.equal(*ends)
    assert not torch.equal(ends[0], torch.arange(3.0))
