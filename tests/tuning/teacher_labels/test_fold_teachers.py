"""Fold teachers, with a stub in place of training."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import softmax

from ser_platform.corpora.splits.split import Split, find_speaker_rows, group_training_speakers
from ser_platform.distillation import outputs
from ser_platform.distillation.outputs import ENSEMBLE, OUT_OF_FOLD
from ser_platform.errors import CorpusError, WorkFailed
from ser_platform.features.augmented_clips import AugmentedClips
from ser_platform.settings import resolve
from ser_platform.tuning.execution.cluster import Cluster
from ser_platform.tuning.execution.fit_job import FitJob, FitResult
from ser_platform.tuning.teacher_labels import fold_teachers
from ser_platform.workflows import confirmation

SETTINGS = resolve({"model.name": "bilstm"})


def report_each(answer: Callable[..., list[FitResult]]) -> Callable[..., None]:
    """Return a stub of `fit_all` that passes each result on as it ends."""

    def fit_all(new_jobs: Sequence[FitJob], where: Cluster, progress: object, on_result: Callable[..., None]) -> None:
        for number, result in enumerate(answer(new_jobs, where, progress)):
            on_result(number, result)

    return fit_all


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[FitJob]:
    """The training runs; the logits of each clip are its row."""
    monkeypatch.setattr(outputs, "home", lambda: tmp_path)  # without stored outputs
    started: list[FitJob] = []

    def answer(new_jobs: Sequence[FitJob], where: Cluster, progress: Callable[[int, int], None]) -> list[FitResult]:
        started.extend(new_jobs)
        logits = [np.repeat(job.label_rows[:, None], 3, axis=1).astype(np.float32) for job in new_jobs]
        return [FitResult({}, None, [], None, values) for values in logits]  # type: ignore[arg-type]

    monkeypatch.setattr(fold_teachers, "fit_all", report_each(answer))
    monkeypatch.setattr(fold_teachers, "fit_temperature", lambda logits, targets, min_temperature: 1.0)
    return started


def make_fold_teachers(split: Split, digest: str = "a") -> fold_teachers.FoldTeachers:
    return fold_teachers.FoldTeachers(
        split, SETTINGS, 3, digest, Cluster(1, 0.0), lambda what: nullcontext(lambda done, everything: None)
    )


def test_no_fold_teacher_is_trained_on_speakers_it_labels_or_on_dev_or_test(split: Split, jobs: list[FitJob]) -> None:
    make_fold_teachers(split).label_split(split, OUT_OF_FOLD)
    speaker = split.manifest.column("speaker")
    assert jobs
    for job in jobs:
        trained_on = set(speaker[job.data.train])
        assert trained_on.isdisjoint(speaker[job.label_rows])
        assert trained_on.isdisjoint(split.speakers("dev"))
        assert trained_on.isdisjoint(split.speakers("test"))
        assert job.data.dev is None, "it does not stop early on the fold"


def test_every_training_clip_is_labelled_once_and_by_its_own_row(split: Split, jobs: list[FitJob]) -> None:
    logits = make_fold_teachers(split).label_split(split, OUT_OF_FOLD).clip_logits
    np.testing.assert_array_equal(logits[split.train, 0], split.train)
    assert np.isnan(logits[split.dev]).all()
    assert np.isnan(logits[split.test]).all()


def test_outputs_are_computed_once(split: Split, jobs: list[FitJob]) -> None:
    make_fold_teachers(split).label_split(split, OUT_OF_FOLD)
    first = len(jobs)
    make_fold_teachers(split).label_split(split, OUT_OF_FOLD)
    assert len(jobs) == first


def test_another_teacher_version_has_other_outputs(split: Split, jobs: list[FitJob]) -> None:
    make_fold_teachers(split, "a").label_split(split, OUT_OF_FOLD)
    first = len(jobs)
    make_fold_teachers(split, "b").label_split(split, OUT_OF_FOLD)
    assert len(jobs) == 2 * first


def test_fold_teachers_are_not_trained_on_rotated_dev_speakers_and_are_shared(split: Split, jobs: list[FitJob]) -> None:
    teachers = make_fold_teachers(split)
    teachers.label_split(split, OUT_OF_FOLD)
    first = len(jobs)
    rotated = confirmation.rotate_dev(split)[0]
    logits = teachers.label_split(rotated, OUT_OF_FOLD).clip_logits
    speaker = split.manifest.column("speaker")
    np.testing.assert_array_equal(logits[rotated.train, 0], rotated.train)
    for job in jobs[first:]:
        assert set(speaker[job.data.train]).isdisjoint(rotated.speakers("dev"))
    assert len(jobs) - first < first + 1, "the teacher without both groups labels both"


def test_dev_speakers_rotate_where_training_has_few_speakers(split: Split) -> None:
    rotations = confirmation.rotate_dev(split)
    assert all(rotation.speakers("dev") != split.speakers("dev") for rotation in rotations)
    assert all(rotation.speakers("test") == split.speakers("test") for rotation in rotations)


def test_fold_teachers_of_a_recipe_with_copies_are_trained_without_them(split: Split, jobs: list[FitJob]) -> None:
    copied = SETTINGS.with_overrides({"augment.copies": 2})
    kept = fold_teachers.FoldTeachers(
        split, copied, 3, "b", Cluster(1, 0.0), lambda what: nullcontext(lambda done, everything: None)
    )
    kept.label_split(split, OUT_OF_FOLD)
    assert jobs and all(job.settings.augment.copies == 0 for job in jobs)


def two_copies_each(split: Split) -> AugmentedClips:
    """Return two copies of each training clip, without audio."""
    originals = np.repeat(split.train, 2)
    numbers = np.tile([1, 2], len(split.train))
    hashes = tuple(f"copy-{number}-of-{row}" for row, number in zip(originals, numbers, strict=True))
    return AugmentedClips(hashes, originals, ("threefold_speed",) * len(hashes), numbers)


def test_a_copy_is_labelled_by_a_teacher_that_is_not_trained_on_its_speaker(split: Split, jobs: list[FitJob]) -> None:
    copies = two_copies_each(split)
    labelled = make_fold_teachers(split).label_split(split, OUT_OF_FOLD, copies)
    np.testing.assert_array_equal(labelled.copy_logits[:, 0], len(split.manifest) + np.arange(len(copies.hashes)))
    np.testing.assert_array_equal(labelled.select(np.array([3]))[-1], labelled.copy_logits[3])
    for job in jobs:
        speaker = np.array(job.data.speakers)
        assert set(speaker[job.data.train]).isdisjoint(speaker[job.label_rows])
        assert max(job.data.train) < len(split.manifest), "they are trained on originals"
        assert all(job.data.hashes[row].startswith("copy") for row in job.label_rows if row >= len(split.manifest))


def test_an_ensemble_is_the_mean_of_all_fold_teachers(split: Split, jobs: list[FitJob], monkeypatch) -> None:
    def answer(new_jobs: Sequence[FitJob], where: Cluster, progress: object) -> list[FitResult]:
        return [
            FitResult({}, None, [], None, np.full((len(job.label_rows), 3), float(number)))  # type: ignore[arg-type]
            for number, job in enumerate(new_jobs)
        ]

    monkeypatch.setattr(fold_teachers, "fit_all", report_each(answer))
    labelled = make_fold_teachers(split).label_split(split, ENSEMBLE, two_copies_each(split))
    n_folds = len(group_training_speakers(split))
    np.testing.assert_allclose(labelled.clip_logits[split.train], (n_folds - 1) / 2)
    np.testing.assert_allclose(labelled.copy_logits, (n_folds - 1) / 2)
    assert np.isnan(labelled.clip_logits[split.dev]).all()


def test_logits_are_calibrated_on_clips_that_the_teacher_is_not_trained_on(
    split: Split, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(outputs, "home", lambda: tmp_path)
    targets = split.manifest.encode_targets(split.manifest.labels)

    def timid(new_jobs: Sequence[FitJob], where: Cluster, progress: object) -> list[FitResult]:
        """Right for three of four clips, with almost uniform probabilities."""
        fits = []
        for job in new_jobs:
            logits = np.zeros((len(job.label_rows), 3), dtype=np.float32)
            answers = np.where(job.label_rows % 4 == 0, (targets[job.label_rows] + 1) % 3, targets[job.label_rows])
            logits[np.arange(len(answers)), answers] = 0.1
            fits.append(FitResult({}, None, [], None, logits))  # type: ignore[arg-type]
        return fits

    monkeypatch.setattr(fold_teachers, "fit_all", report_each(timid))
    labelled = make_fold_teachers(split).label_split(split, OUT_OF_FOLD)
    right = np.mean(split.train % 4 != 0)
    sure = softmax(labelled.clip_logits[split.train], axis=1).max(axis=1)
    assert labelled.temperature < 0.1
    np.testing.assert_allclose(sure, right, atol=0.02)


def test_the_teacher_of_an_assistant_is_not_trained_on_speakers_that_the_assistant_labels(
    split: Split, jobs: list[FitJob]
) -> None:
    manifest, (one, two, *four) = split.manifest, split.manifest.speakers
    split = Split(
        manifest,
        find_speaker_rows(manifest, four),
        find_speaker_rows(manifest, [one]),
        find_speaker_rows(manifest, [two]),
        seed=0,
    )
    counting = lambda what: nullcontext(lambda done, everything: None)  # noqa: E731
    described = SimpleNamespace(settings=resolve({"model.name": "cnn_bilstm"}))
    teacher = SimpleNamespace(description=described, n_epochs=2, digest="t", title="ser-teacher/1", own_teacher=None)
    distilled = SimpleNamespace(settings=SETTINGS.with_overrides({"distill.alpha": 0.5}))
    assistant = SimpleNamespace(
        description=distilled, n_epochs=3, digest="a", title="ser-student/1", own_teacher=teacher
    )
    fold_teachers.TeacherLabeller(assistant, split, Cluster(1, 0.0), counting).label_split(split, [OUT_OF_FOLD])  # type: ignore[arg-type]
    speaker = split.manifest.column("speaker")
    assistants = [job for job in jobs if job.settings.model.name == "bilstm"]
    teachers = [job for job in jobs if job.settings.model.name == "cnn_bilstm"]
    assert assistants and teachers
    for job in assistants:
        labelled = job.data.teacher_outputs[OUT_OF_FOLD].clip_logits
        np.testing.assert_array_equal(labelled[job.data.train, 0], job.data.train)
        assert np.isnan(labelled[job.label_rows]).all()
        inner = [each for each in teachers if set() < set(each.data.train) < set(job.data.train)]
        assert inner, "its teachers are trained on fewer clips"
        for each in inner:
            assert set(speaker[each.data.train]).isdisjoint(speaker[job.label_rows])
    for job in teachers:
        assert len(job.data.train)
        assert set(speaker[job.data.train]).isdisjoint((*split.speakers("dev"), *split.speakers("test")))
        assert set(speaker[job.data.train]).isdisjoint(speaker[job.label_rows])


def test_too_few_groups_of_speakers_are_refused(split: Split, jobs: list[FitJob]) -> None:
    folds = fold_teachers.FoldTeachers(
        split,
        SETTINGS,
        3,
        "a",
        Cluster(1, 0.0),
        lambda what: nullcontext(lambda done, everything: None),
        [split.speakers("dev"), split.speakers("train")],
    )
    with pytest.raises(CorpusError, match="there are 2 groups of speakers"):
        folds.label_split(split, OUT_OF_FOLD)
    assert jobs == []


def test_unlabelled_clips_get_the_mean_of_all_fold_teachers(
    split: Split, jobs: list[FitJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(new_jobs: Sequence[FitJob], where: Cluster, progress: object) -> list[FitResult]:
        jobs.extend(new_jobs)
        given = [np.full((len(job.label_rows), 3), number, np.float32) for number, job in enumerate(new_jobs)]
        return [FitResult({}, None, [], None, values) for values in given]  # type: ignore[arg-type]

    monkeypatch.setattr(fold_teachers, "fit_all", report_each(answer))
    strangers = ("ab" * 32, "cd" * 32)
    labelled = make_fold_teachers(split).label_split(split, OUT_OF_FOLD, unlabelled=strangers)
    n_clips = len(split.manifest)
    np.testing.assert_allclose(labelled.unlabelled_logits, np.full((2, 3), (len(jobs) - 1) / 2))
    for job in jobs:
        assert not set(job.data.train) & {n_clips, n_clips + 1}, "no fold teacher is trained on them"
        assert {n_clips, n_clips + 1} <= set(job.label_rows)
    n_jobs = len(jobs)
    make_fold_teachers(split).label_split(split, OUT_OF_FOLD)
    assert len(jobs) == 2 * n_jobs, "outputs without them have another key"


def test_splits_share_the_fold_teachers_trained_without_the_same_speakers(split: Split, jobs: list[FitJob]) -> None:
    manifest = split.manifest
    groups = [(speaker,) for speaker in manifest.speakers]
    rows = [find_speaker_rows(manifest, group) for group in groups]
    labellers: list[fold_teachers.FoldTeachers] = []
    missing: list[fold_teachers.FoldFit] = []
    splits: list[Split] = []
    for test in range(len(groups)):
        dev = (test + 1) % len(groups)
        train = np.sort(np.concatenate([rows[other] for other in range(len(groups)) if other not in (test, dev)]))
        splits.append(Split(manifest, train, rows[dev], rows[test], 0, fold=str(test)))
        others = [group for number, group in enumerate(groups) if number != test]
        labellers.append(
            fold_teachers.FoldTeachers(
                splits[-1],
                SETTINGS,
                3,
                "shared",
                Cluster(1, 0.0),
                lambda what: nullcontext(lambda done, everything: None),
                others,
            )
        )
        missing += labellers[-1].list_missing(splits[-1], OUT_OF_FOLD)
    fold_teachers.train_fold_teachers(missing, Cluster(1, 0.0), lambda what: nullcontext(lambda done, n: None))
    assert len(missing) == 24 and len(jobs) == 18, "each of 6 neighbouring threes is left out by two splits"
    speaker = manifest.column("speaker")
    for each in missing:
        assert set(speaker[each.job.data.train]).isdisjoint(speaker[each.job.label_rows])
    n_trained = len(jobs)
    for labeller, each_split in zip(labellers, splits, strict=True):
        labelled = labeller.label_split(each_split, OUT_OF_FOLD).clip_logits
        assert (labelled[each_split.train, 0] == each_split.train).all(), "each clip has its own logits"
    assert len(jobs) == n_trained, "all outputs were stored"


def test_outputs_of_fold_teachers_that_ended_are_kept_when_a_later_one_fails(
    split: Split, jobs: list[FitJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(new_jobs: Sequence[FitJob], where: Cluster, progress: object, on_result: Callable[..., None]) -> None:
        logits = np.zeros((len(new_jobs[0].label_rows), 3), dtype=np.float32)
        on_result(0, FitResult({}, None, [], None, logits))  # type: ignore[arg-type]
        raise WorkFailed("a training process was killed")

    monkeypatch.setattr(fold_teachers, "fit_all", fail)
    labeller = make_fold_teachers(split, "kept")
    n_fold_teachers = len(labeller.list_missing(split, OUT_OF_FOLD))
    with pytest.raises(WorkFailed):
        labeller.label_split(split, OUT_OF_FOLD)
    assert len(labeller.list_missing(split, OUT_OF_FOLD)) == n_fold_teachers - 1
