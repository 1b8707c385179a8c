"""Teacher outputs by audio digest."""

import numpy as np
import pytest

from ser_platform.distillation.outputs import assemble
from ser_platform.errors import WorkFailed


def outputs(*digests: str) -> dict[str, np.ndarray]:
    return {digest: np.full(2, ord(digest), dtype=np.float32) for digest in digests}


def test_two_clips_with_the_same_audio_get_the_same_logits() -> None:
    logits = assemble([outputs("a"), outputs("b")], ["a", "b", "a"], np.array([0, 1, 2]), 2)
    np.testing.assert_array_equal(logits[:, 0], [ord("a"), ord("b"), ord("a")])


def test_a_training_clip_without_a_teacher_is_refused() -> None:
    with pytest.raises(WorkFailed, match="labelled by no teacher"):
        assemble([outputs("a")], ["a", "b"], np.array([0, 1]), 2)


def test_a_clip_with_two_teachers_is_refused() -> None:
    with pytest.raises(WorkFailed, match="two fold teachers"):
        assemble([outputs("a"), outputs("a")], ["a"], np.array([0]), 2)


def test_clips_outside_training_need_no_teacher() -> None:
    logits = assemble([outputs("a")], ["a", "dev"], np.array([0]), 2)
    assert np.isnan(logits[1]).all()
