"""Training keeps the memory that it frees for its next step."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from ser_platform.tuning.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    blocks = [torch.ones(2**22) for _ in range(8)]
for _ in range(3):
    step()
before = faults()
for _ in range(5):
    step()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to keep")
def test_blocks_freed_in_one_step_are_not_faulted_in_again_in_the_next():
    def faults(word):
        done = subprocess.run([sys.executable, "-c", SCRIPT, word], capture_output=True, text=True, check=True)
        return int(done.stdout)

    left = faults("leave")
    if left < 100:
        pytest.skip(f"this system counts {left} page faults where 40 blocks of 16 MB are touched")
    assert faults("keep") < left / 4
