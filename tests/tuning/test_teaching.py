"""Fold teachers, with a recorder in place of training."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from ser_platform.corpora.splits import Split
from ser_platform.distillation import outputs
from ser_platform.settings import resolve
from ser_platform.tuning import choosing, teaching
from ser_platform.tuning.cluster import Cluster
from ser_platform.tuning.trainable import Fit, FitJob

SETTINGS = resolve({"model.name": "bilstm"})


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[FitJob]:
    """The training runs asked for; each teacher answers with the clip's number."""
    monkeypatch.setattr(outputs, "home", lambda: tmp_path)  # none is cached yet
    asked: list[FitJob] = []

    def answer(wanted: Sequence[FitJob], where: Cluster, progress: Callable[[int, int], None]) -> list[Fit]:
        asked.extend(wanted)
        logits = [np.repeat(job.label[:, None], 3, axis=1).astype(np.float32) for job in wanted]
        return [Fit({}, None, [], None, values) for values in logits]  # type: ignore[arg-type]

    monkeypatch.setattr(teaching, "fit_all", answer)
    return asked


def fold_teachers(split: Split, digest: str = "a") -> teaching.FoldTeachers:
    return teaching.FoldTeachers(
        split, SETTINGS, 3, digest, Cluster(1, 0.0), lambda what: nullcontext(lambda done, everything: None)
    )


def test_no_fold_teacher_has_heard_whom_it_labels_nor_dev_nor_test(split: Split, jobs: list[FitJob]) -> None:
    fold_teachers(split).logits(split)
    speaker = split.manifest.column("speaker")
    assert jobs
    for job in jobs:
        heard = set(speaker[job.task.train])
        assert heard.isdisjoint(speaker[job.label])
        assert heard.isdisjoint(split.speakers("dev"))
        assert heard.isdisjoint(split.speakers("test"))
        assert job.task.dev is None, "the fold decides nothing"


def test_every_training_clip_is_labelled_once_and_by_its_own_row(split: Split, jobs: list[FitJob]) -> None:
    logits = fold_teachers(split).logits(split)
    np.testing.assert_array_equal(logits[split.train, 0], split.train)
    assert np.isnan(logits[split.dev]).all()
    assert np.isnan(logits[split.test]).all()


def test_outputs_are_computed_once(split: Split, jobs: list[FitJob]) -> None:
    fold_teachers(split).logits(split)
    first = len(jobs)
    fold_teachers(split).logits(split)
    assert len(jobs) == first


def test_another_teacher_version_has_other_outputs(split: Split, jobs: list[FitJob]) -> None:
    fold_teachers(split, "a").logits(split)
    first = len(jobs)
    fold_teachers(split, "b").logits(split)
    assert len(jobs) == 2 * first


def test_rotated_dev_speakers_are_unheard_too_and_share_teachers(split: Split, jobs: list[FitJob]) -> None:
    teachers = fold_teachers(split)
    teachers.logits(split)
    first = len(jobs)
    rotated = choosing.dev_rotations(split)[0]
    logits = teachers.logits(rotated)
    speaker = split.manifest.column("speaker")
    np.testing.assert_array_equal(logits[rotated.train, 0], rotated.train)
    for job in jobs[first:]:
        assert set(speaker[job.task.train]).isdisjoint(rotated.speakers("dev"))
    assert len(jobs) - first < first + 1, "the teacher without both groups serves both"


def test_dev_speakers_rotate_where_training_has_few_speakers(split: Split) -> None:
    rotations = choosing.dev_rotations(split)
    assert all(rotation.speakers("dev") != split.speakers("dev") for rotation in rotations)
    assert all(rotation.speakers("test") == split.speakers("test") for rotation in rotations)


def test_fold_teachers_of_a_recipe_with_copies_go_without_and_their_key_says_so(
    split: Split, jobs: list[FitJob]
) -> None:
    copied = SETTINGS | {"augment.copies": 2}
    kept = teaching.FoldTeachers(
        split, copied, 3, "b", Cluster(1, 0.0), lambda what: nullcontext(lambda done, everything: None)
    )
    kept.logits(split)
    assert jobs and all(job.settings["augment.copies"] == 0 for job in jobs)
