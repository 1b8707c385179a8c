"""Unlabelled speech: refused clips, its loss term, and its teacher outputs."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from rich.console import Console

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.corpora.lineage import LineageLeak
from ser_platform.corpora.splits.split import Split, split_by_speaker
from ser_platform.corpora.unlabelled_speech import read_unlabelled_speech
from ser_platform.distillation.outputs import TeacherOutputs
from ser_platform.distillation.student_loss import distillation_loss
from ser_platform.errors import CorpusError, UserError
from ser_platform.features.augmented_clips import prepare_augmented_clips
from ser_platform.features.dataset import DataRequest
from ser_platform.progress import Display
from ser_platform.settings import resolve
from ser_platform.tracking.mlflow_store import open_client
from ser_platform.tracking.registry import load_bundle
from ser_platform.training.batches.sampling import add_unlabelled
from ser_platform.training.configuration import feature_view, refuse_contradictions
from ser_platform.training.cross_entropy import compute_class_weights
from ser_platform.tuning.execution.cluster import Cluster
from ser_platform.tuning.execution.fit_job import TrialData, fit
from ser_platform.tuning.teacher_labels import fold_teachers
from ser_platform.tuning.teacher_labels.unlabelled_pool import FeatureNeed, UnlabelledPool, prepare_unlabelled
from ser_platform.workflows import training_run
from ser_platform.workflows.train import run_training
from ser_platform.workflows.train_plan import TrainRequest

NEEDS = [(("log_mel",), "float32")]
DISTILLED = {
    "model.name": "lite_cnn",
    "distill.alpha": 0.5,
    "distill.unlabelled": "more",
    "features.sets": ("log_mel",),
}


@pytest.fixture
def strangers(tmp_path: Path, tone) -> Path:
    """A folder with five recordings that fits no corpus."""
    folder = tmp_path / "strangers"
    for number in range(5):
        path = folder / "some" / f"take {number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(200 + 90 * number, 0.6 + 0.1 * number), 16000)
    return folder


@pytest.fixture
def split(tones) -> Split:
    return split_by_speaker(tones, seed=0)


def prepare(folder: Path, *splits: Split, needs: list[FeatureNeed] = NEEDS) -> UnlabelledPool:
    return prepare_unlabelled(str(folder), needs, splits, Display(Console(quiet=True)).show_progress)


def test_any_folder_of_recordings_is_accepted(strangers):
    clips = read_unlabelled_speech(str(strangers))
    assert [Path(path).stem for path in clips.column("path")] == [f"take {number}" for number in range(5)]
    assert clips.speakers == ("folder-strangers-unknown",)


def test_the_speakers_of_a_known_corpus_are_read(tone_corpus):
    assert read_unlabelled_speech(str(tone_corpus)).speakers[:2] == ("ravdess-01", "ravdess-02")


def test_an_empty_or_missing_folder_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"empty holds no audio"):
        read_unlabelled_speech(str(tmp_path / "empty"))
    with pytest.raises(UserError, match="nowhere"):
        read_unlabelled_speech("nowhere")


def test_a_duplicate_clip_counts_once(strangers):
    shutil.copy(strangers / "some" / "take 1.wav", strangers / "again.wav")
    assert len(prepare(strangers).hashes) == 5


@pytest.mark.parametrize("part", ["train", "dev", "test"])
def test_one_renamed_clip_of_the_corpus_is_refused_by_name(strangers, split, part):
    clip = split.manifest.take(split.parts[part][:1]).column("path")[0]
    shutil.copy(clip, strangers / "some" / "renamed clip.wav")
    with pytest.raises(LineageLeak, match=f"strangers contains 1 {part} clips.*some/renamed clip"):
        prepare(strangers, split)


def test_another_clip_of_a_test_speaker_is_refused(tones, tone_corpus, tmp_path, split):
    speaker = split.speakers("test")[0]
    number = speaker.rpartition("-")[2]
    (tmp_path / "more").mkdir()
    samples, rate = soundfile.read(next((tone_corpus / f"Actor_{number}").iterdir()))
    soundfile.write(tmp_path / "more" / f"03-01-01-01-01-01-{number}.wav", samples[: len(samples) // 2], rate)
    with pytest.raises(LineageLeak, match="contains 0 test clips of this corpus, or others of its test speakers"):
        prepare(tmp_path / "more", split)


def test_recordings_of_other_speakers_are_accepted(strangers, split):
    prepare(strangers, split)


def test_a_clip_without_a_label_enters_only_the_teacher_term():
    student, teacher, targets = torch.randn(6, 3), torch.randn(6, 3), torch.tensor([0, -1, 2, 1, -1, -1])
    how = {"temperature": 2.0, "class_weights": torch.tensor([0.5, 1.0, 2.0]), "label_smoothing": 0.1}
    labelled = targets >= 0
    hard = distillation_loss(student[labelled], teacher[labelled], targets[labelled], alpha=0.0, **how)
    soft = distillation_loss(student, teacher, targets.clamp_min(0), alpha=1.0, **how)
    whole = distillation_loss(student, teacher, targets, alpha=0.25, has_unlabelled=True, **how)
    torch.testing.assert_close(whole, 0.75 * hard + 0.25 * soft)
    parts = [
        distillation_loss(
            student[rows],
            teacher[rows],
            targets[rows],
            alpha=0.25,
            has_unlabelled=True,
            full_batch_targets=targets,
            **how,
        )
        for rows in ([0, 1, 3], [2], [4, 5])  # the last has no label at all
    ]
    torch.testing.assert_close(sum(parts), whole)


def test_a_batch_without_any_label_has_a_finite_loss():
    logits, targets = torch.randn(2, 3, requires_grad=True), torch.tensor([-1, -1])
    loss = distillation_loss(logits, torch.randn(2, 3), targets, temperature=2.0, alpha=0.5, has_unlabelled=True)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_an_epoch_has_at_most_as_many_unlabelled_clips_as_labelled_ones_in_turn():
    labelled, unlabelled = np.arange(4), np.arange(10, 20)
    epochs = [add_unlabelled(labelled, unlabelled, seed=0, epoch=epoch) for epoch in range(1, 6)]
    assert all(clips[:4].tolist() == [0, 1, 2, 3] and len(clips) == 8 for clips in epochs)
    drawn = np.concatenate([clips[4:] for clips in epochs])
    assert np.bincount(drawn, minlength=20)[10:].tolist() == [2] * 10
    few = add_unlabelled(labelled, unlabelled[:3], seed=0, epoch=7)
    assert sorted(few.tolist()) == [0, 1, 2, 3, 10, 11, 12]
    assert add_unlabelled(labelled, unlabelled[:0], seed=0, epoch=1) is labelled


def test_unlabelled_clips_come_after_clips_and_copies(split, strangers):
    settings = resolve(DISTILLED | {"augment.copies": 1, "augment.recipe": "threefold_speed", "distill.hint": "mse"})
    needs = feature_view(settings).required_families
    copies = prepare_augmented_clips(split, [("threefold_speed", 2)], needs)
    more = prepare(strangers, needs=[(needs, "float32")]).hashes
    manifest, n, n_copies = split.manifest, len(split.manifest), len(copies.hashes)
    numbered = np.arange(n + n_copies + len(more), dtype=np.float32)[:, None]
    labelled_outputs = TeacherOutputs(*np.split(numbered, [n, n + n_copies]))
    task = TrialData.from_split(
        split, manifest.labels, {"out_of_fold": labelled_outputs}, copies, hints=numbered, unlabelled_hashes=more
    )
    data = task.make_training_data(settings)
    assert data.unlabelled.tolist() == list(range(len(data.targets) - 5, len(data.targets)))
    expected = np.arange(n + n_copies, n + n_copies + 5)
    np.testing.assert_array_equal(data.teacher_logits[data.unlabelled, 0], expected)
    np.testing.assert_array_equal(data.teacher_embeddings[data.unlabelled, 0], expected)
    of_copies = data.labelled[data.labelled >= n]
    chosen = n + copies.select_copies("threefold_speed", 1, split.train)
    np.testing.assert_array_equal(data.teacher_logits[of_copies, 0], chosen)
    alone = task.make_training_data(settings.with_overrides({"distill.alpha": 0.0, "distill.hint": "off"}))
    assert len(alone.unlabelled) == 0, "without a teacher they have no targets"
    np.testing.assert_array_equal(
        compute_class_weights(data.targets[data.labelled], 3), compute_class_weights(alone.targets[alone.train], 3)
    )


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"distill.alpha": 0.0}, "distill.alpha 0: unlabelled clips need a teacher"),
        ({"distill.loss": "dkd"}, "needs the true class"),
        ({"augment.mixup": 0.3}, "mixes classes"),
        ({"features.normalise": "speaker"}, "no speaker is known"),
    ],
)
def test_settings_that_need_a_label_or_a_speaker_are_refused(settings, reason):
    with pytest.raises(UserError, match=f"distill.unlabelled more cannot be used with .*{reason}"):
        refuse_contradictions(resolve(DISTILLED | settings))


def test_the_lineage_of_a_student_includes_unlabelled_clips(tones, tone_corpus, strangers, monkeypatch):
    monkeypatch.setattr(training_run, "connect_cluster", lambda: nullcontext(Cluster(1, 0.0)))

    def fit_all(jobs, where, progress, on_result):
        for number, job in enumerate(jobs):
            on_result(number, fit(job))

    monkeypatch.setattr(fold_teachers, "fit_all", fit_all)
    request, display = DataRequest(CorpusRequest(str(tone_corpus))), Display(Console(quiet=True))
    run_training(TrainRequest("teacher", request, {"model.name": "bilstm", "train.epochs": 1}, "cpu"), display)
    settings = DISTILLED | {"train.epochs": 1, "distill.unlabelled": str(strangers)}
    result = run_training(TrainRequest("student", request, settings, "cpu"), display)
    assert result.model is not None
    bundle = load_bundle(open_client(), result.model)
    lineage = prepare(strangers).lineage
    assert set(lineage.trained_audio) <= set(bundle.lineage.trained_audio)

    clip = result.dataset.manifest.take(result.dataset.split.test[:1]).column("path")[0]
    shutil.copy(clip, strangers / "harmless.wav")
    with pytest.raises(LineageLeak, match="contains 1 test clips.*harmless"):
        run_training(TrainRequest("student", request, settings, "cpu"), display)
