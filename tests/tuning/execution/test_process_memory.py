"""Training keeps freed memory for its next step, and only a limited number of compiled kernels."""

import os
import platform
import subprocess
import sys

import pytest

from ser_platform.tuning.execution.process_memory import ONEDNN_CACHE_VARIABLE

SCRIPT = """
import resource, sys, torch
from ser_platform.tuning.execution.process_memory import retain_freed_memory
if sys.argv[1] == "keep":
    retain_freed_memory()
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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the thresholds are those of glibc")
def test_blocks_freed_in_one_step_cause_no_page_faults_in_the_next():
    def faults(word):
        done = subprocess.run([sys.executable, "-c", SCRIPT, word], capture_output=True, text=True, check=True)
        return int(done.stdout)

    left = faults("leave")
    if left < 100:
        pytest.skip(f"this system counts {left} page faults where 40 blocks of 16 MB are touched")
    assert faults("keep") < left / 4


GROWTH = """
import ctypes, sys, torch
from ser_platform.tuning.execution.process_memory import limit_onednn_cache
if sys.argv[1] == "limit":
    limit_onednn_cache()
layers = torch.nn.Sequential(*(torch.nn.Conv2d(16, 16, 3, padding=1) for _ in range(4)))
def held():
    ctypes.CDLL(None).malloc_trim(0)  # free memory of the heap does not count
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
def step(length):
    layers(torch.ones(2, 16, length, 8)).sum().backward()
for length in range(50, 130):
    step(length)
before = held()
for length in range(130, 400):
    step(length)
print(held() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory is read from /proc, the heap trimmed by glibc")
def test_clips_of_many_lengths_do_not_fill_the_memory():
    # A training in the process of this test has set the variable.
    environment = {name: value for name, value in os.environ.items() if name != ONEDNN_CACHE_VARIABLE}

    def grown(word):
        command = [sys.executable, "-c", GROWTH, word]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return int(done.stdout)

    kept = grown("keep")
    if kept < 4096:
        pytest.skip(f"this build of torch keeps {kept} kB of kernels for 270 lengths: nothing to limit")
    assert grown("limit") < 0.6 * kept
