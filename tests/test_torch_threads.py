"""One thread inside the block, and the former number after it, for every thread of the process."""

import threading
from collections.abc import Iterator

import pytest
import torch

from ser_platform.torch_threads import limit_to_one_thread


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_an_inner_block_does_not_end_the_limit_of_the_outer_one():
    with limit_to_one_thread():
        with limit_to_one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_the_number_is_restored_after_an_error():
    with pytest.raises(ZeroDivisionError), limit_to_one_thread():
        raise ZeroDivisionError
    assert torch.get_num_threads() == 2


def test_a_thread_that_starts_inside_the_block_of_another_restores_the_number_of_both():
    numbers = []

    def work() -> None:
        with limit_to_one_thread():
            numbers.append(torch.get_num_threads())
        numbers.append(torch.get_num_threads())

    with limit_to_one_thread():
        other = threading.Thread(target=work)
        other.start()
        other.join()
        assert torch.get_num_threads() == 1
    assert numbers == [1, 2]
    assert torch.get_num_threads() == 2
