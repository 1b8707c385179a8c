"""All private APIs of torch that training uses: check them when torch is upgraded."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import AdamW, Optimizer


class UncompiledAdamW(AdamW):
    """AdamW that does not import torch's compiler, which takes 2 CPU seconds in each process and compiles nothing here.

    torch 2.14.1: `AdamW.step` is wrapped in a function that imports the compiler, for programs that compile it.
    `zero_grad` and others of `Optimizer` take a version that the compiler skips from the attribute `__dynamo_disable`
    of the function that they wrap, and import the compiler where there is none.
    """

    def __init__(self, parameter_groups: list[dict[str, Any]]) -> None:
        for method in (Optimizer.add_param_group, Optimizer.zero_grad, Optimizer.state_dict, Optimizer.load_state_dict):
            plain = inspect.unwrap(method)
            plain.__dict__.setdefault("__dynamo_disable", plain)
        super().__init__(parameter_groups)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss: float | None = inspect.unwrap(AdamW.step)(self, closure)
        return loss
