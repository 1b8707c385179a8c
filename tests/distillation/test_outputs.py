"""Teacher outputs by audio digest."""

import numpy as np
import pytest

from ser_platform.distillation.outputs import (
    FOLD,
    REGISTERED,
    OutputsKey,
    average_outputs,
    list_outputs,
    merge_fold_outputs,
    outputs_folder,
    require_labelled,
    write_outputs,
)
from ser_platform.errors import WorkFailed
from ser_platform.settings import resolve


def outputs(*digests: str) -> dict[str, np.ndarray]:
    return {digest: np.full(2, ord(digest), dtype=np.float32) for digest in digests}


def test_two_clips_with_the_same_audio_get_the_same_logits() -> None:
    logits = merge_fold_outputs([outputs("a"), outputs("b")], ["a", "b", "a"], 2)
    np.testing.assert_array_equal(logits[:, 0], [ord("a"), ord("b"), ord("a")])


def test_require_labelled_refuses_a_clip_without_a_teacher() -> None:
    logits = merge_fold_outputs([outputs("a")], ["a", "dev"], 2)
    assert np.isnan(logits[1]).all()
    require_labelled(logits[:1])
    with pytest.raises(WorkFailed, match="labelled by no teacher"):
        require_labelled(logits)


def test_a_clip_with_two_teachers_is_refused() -> None:
    with pytest.raises(WorkFailed, match="two fold teachers"):
        merge_fold_outputs([outputs("a"), outputs("a")], ["a"], 2)


def test_average_outputs_is_the_mean_over_the_teachers_of_a_clip() -> None:
    labelled = [{"a": np.array([1.0, 3.0])}, {"a": np.array([3.0, 5.0]), "b": np.array([7.0, 9.0])}]
    logits = average_outputs(labelled, ["a", "b", "c"], 2)
    np.testing.assert_array_equal(logits[:2], [[2.0, 4.0], [7.0, 9.0]])
    assert np.isnan(logits[2]).all()


def key(**changes: object) -> OutputsKey:
    fields = {
        "kind": FOLD,
        "teacher_digest": "d" * 64,
        "settings": resolve({"model.name": "bilstm"}),
        "trained_on": ("x", "y"),
        "labels_clips": ("a", "b"),
        "stop_after": 3,
        "labels": ("anger", "neutral"),
    }
    return OutputsKey(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"kind": REGISTERED},
        {"teacher_digest": "e" * 64},
        {"settings": resolve({"model.name": "bilstm", "seed": 1})},
        {"trained_on": ("x",)},
        {"labels_clips": ("a",)},
        {"stop_after": 4},
        {"labels": ("neutral", "anger")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_path_of_outputs_depends_on_every_field_of_the_key(change: dict[str, object]) -> None:
    assert key(**change).path != key().path


def test_stored_outputs_are_listed_with_their_metadata_and_damaged_files_as_unreadable() -> None:
    write_outputs(key(), ["a", "b"], np.zeros((2, 2), dtype=np.float32))
    (outputs_folder() / "torn.safetensors").write_bytes(b"no tensors")
    whole, torn = sorted(list_outputs(), key=lambda each: not each.is_readable)
    assert whole.n_clips == 2 and whole.teacher_digest == "d" * 64
    assert whole.description["model"] == "bilstm" and whole.description["kind"] == FOLD
    assert not torn.is_readable
