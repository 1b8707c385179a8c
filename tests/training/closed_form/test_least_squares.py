"""`model.name ridge`: least squares on labels, on a teacher's logits, and on clips without a label."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from ser_platform.corpora.lineage import Lineage
from ser_platform.corpora.splits.split import Split
from ser_platform.errors import UserError
from ser_platform.features.views.viewed_clips import StoredViewedClips
from ser_platform.inference.bundle import Bundle, read_bundle
from ser_platform.settings import Settings, resolve
from ser_platform.training.batches.batch import TrainingData
from ser_platform.training.closed_form.closed_form_settings import default_classical_settings
from ser_platform.training.closed_form.least_squares import FeatureRidgeTrainer
from ser_platform.training.configuration import feature_view, refuse_contradictions
from ser_platform.training.loop import Diverged
from ser_platform.training.trainers import make_trainer

Made = Callable[..., FeatureRidgeTrainer]


def settings_of(**changes: Any) -> Settings:
    overrides = {"model.name": "ridge"} | {name.replace("__", "."): value for name, value in changes.items()}
    return resolve(default_classical_settings(overrides) | {"data.max_seconds": 2.0} | overrides)


@pytest.fixture
def made(split: Split) -> Made:
    """Return a fitted trainer on the tone corpus, with the given or random teacher logits."""

    def make(teacher: Any = None, without_label: int = 0, fewer: int = 0, **changes: Any) -> FeatureRidgeTrainer:
        settings, manifest = settings_of(**changes), split.manifest
        hashes, speakers = tuple(manifest.column("audio_sha256")), tuple(manifest.column("speaker"))
        features = StoredViewedClips(feature_view(settings), hashes, speakers)
        targets = manifest.encode_targets(manifest.labels).copy()
        targets[split.train[: 4 * without_label : 4]] = -1
        if teacher is None:
            teacher = np.random.default_rng(0).normal(size=(len(targets), len(manifest.labels)))
        train = np.delete(split.train, np.flatnonzero(targets[split.train] == 0)[:fewer])
        data = TrainingData(features, targets, manifest.labels, train, split.dev, np.float32(teacher))
        trainer = make_trainer(settings, data)
        assert isinstance(trainer, FeatureRidgeTrainer)
        list(trainer.epochs())
        return trainer

    return make


def parts_of(trainer: FeatureRidgeTrainer) -> tuple[Any, Any, Any, Any]:
    clips = trainer.data.train
    return clips, trainer._read_rows(clips).astype(np.float64), *trainer._make_target_scores(clips)


@pytest.mark.parametrize("weighs", [True, False])
def test_the_sum_of_both_squares_is_minimal(weighs, made):
    # The gradient, by hand, of sum_i alpha |s_i - t_i|^2 + (1 - alpha) w_i |s_i - c_i|^2 + penalty |W|^2.
    alpha = 0.7
    trainer = made(fewer=4, distill__alpha=alpha, model__relevance=0.0, model__ridge=0.3, train__class_weights=weighs)
    clips, rows, target_scores, weights = parts_of(trainer)
    targets, n_emotions = trainer.data.targets[clips], len(trainer.data.labels)
    weight, bias = trainer._solve(rows, target_scores, weights)
    teacher = trainer.data.teacher_logits[clips].astype(np.float64)
    teacher -= teacher.mean(axis=1, keepdims=True)
    classes = np.eye(n_emotions)[targets] - 1 / n_emotions
    classes *= np.sqrt((teacher**2).mean() / (classes**2).mean())
    counts = np.bincount(targets)
    of_class = len(targets) / (n_emotions * counts[targets]) if weighs else np.ones(len(targets))
    scores = rows @ weight.T + bias
    errors = alpha * (scores - teacher) + (1 - alpha) * of_class[:, None] * (scores - classes)
    penalty = 0.3 * rows.shape[1] * weight
    np.testing.assert_allclose(errors.T @ rows + penalty, 0, atol=1e-6 * np.abs(rows).sum())
    np.testing.assert_allclose(errors.sum(axis=0), 0, atol=1e-6)


def test_a_student_of_a_linear_teacher_has_its_logits(made):
    first = made(distill__alpha=0.0)
    teacher = first.logits(np.arange(len(first.data.targets)))
    student = made(teacher, distill__alpha=1.0, model__ridge=1e-6, model__relevance=0.0)
    again, before = (trainer.logits(student.data.dev) for trainer in (student, first))
    again, before = (logits - logits.mean(axis=1, keepdims=True) for logits in (again, before))
    assert np.corrcoef(again.ravel(), before.ravel())[0, 1] > 0.999


def test_without_a_teacher_its_logits_change_nothing(made):
    one, other = made(distill__alpha=0.0), made(np.full((1000, 3), np.nan), distill__alpha=0.0)
    assert one.best_state["layer.weight"].equal(other.best_state["layer.weight"])
    assert one.best_dev_logits is not None and (one.best_dev_logits == other.best_dev_logits).all()


def test_a_clip_without_a_label_has_only_the_teacher_term(made):
    trainer = made(without_label=3, distill__alpha=0.6, train__class_weights=False)
    clips, _, target_scores, weights = parts_of(trainer)
    teacher = trainer.data.teacher_logits[clips].astype(np.float64)
    np.testing.assert_allclose(target_scores[:12:4], (teacher - teacher.mean(axis=1, keepdims=True))[:12:4])
    np.testing.assert_allclose(weights[:12:4], 0.6)
    np.testing.assert_allclose(np.delete(weights, [0, 4, 8]), 1.0)
    assert trainer.best_dev_logits is not None and np.isfinite(trainer.best_dev_logits).all()


def test_an_uninformative_column_has_a_lower_relevance(made):
    trainer = made(distill__alpha=0.0)
    _, rows, target_scores, weights = parts_of(trainer)
    noise = np.random.default_rng(1).normal(size=rows.shape)
    scale = trainer._compute_relevance(np.hstack([rows, noise, np.zeros((len(rows), 1))]), target_scores, weights)
    assert scale[: rows.shape[1]].mean() > 1.5 * scale[rows.shape[1] : -1].mean()
    assert scale[-1] == 0 and np.sum(scale**2) == pytest.approx(1)
    trainer.settings = trainer.settings.with_overrides({"model.relevance": 0.0})
    np.testing.assert_allclose(trainer._compute_relevance(rows, target_scores, weights), 1 / np.sqrt(rows.shape[1]))


def test_a_weight_of_two_equals_a_repeated_clip(made):
    trainer = made(distill__alpha=0.0)
    _, rows, target_scores, weights = parts_of(trainer)
    times = 1 + (np.argmax(target_scores, axis=1) == 0)
    again = np.repeat(np.arange(len(rows)), times)
    weighed = trainer._compute_relevance(rows, target_scores, weights * times)
    np.testing.assert_allclose(trainer._compute_relevance(rows[again], target_scores[again], weights[again]), weighed)
    for one, other in zip(
        trainer._solve(rows, target_scores, weights * times),
        trainer._solve(rows[again], target_scores[again], weights[again]),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-8)


def test_identical_copies_change_nothing(made):
    trainer = made(distill__alpha=0.0)
    _, rows, target_scores, weights = parts_of(trainer)
    before = trainer._solve(rows, target_scores, weights)
    trainer.settings = trainer.settings.with_overrides({"augment.copies": 2})
    after = trainer._solve(np.vstack([rows] * 3), np.vstack([target_scores] * 3), np.concatenate([weights] * 3))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-8)


def test_calibrated_logits_have_a_lower_log_loss_than_scores(made):
    trainer = made(distill__alpha=0.0, model__ridge=10.0)
    dev = trainer.data.dev
    weight, bias = trainer._solve(*parts_of(trainer)[1:])
    raw = trainer._read_rows(dev) @ weight.T + bias
    losses = [log_loss(trainer.data.targets[dev], softmax(scores, axis=1)) for scores in (trainer.best_dev_logits, raw)]
    assert losses[0] < losses[1] / 2


def test_calibration_uses_models_not_trained_on_the_speaker(made, monkeypatch):
    trainer = made(distill__alpha=0.0)
    clips, rows, target_scores, weights = parts_of(trainer)
    speakers, fitted = np.array([trainer.data.features.speakers[clip] for clip in clips]), []
    solved = trainer._solve
    monkeypatch.setattr(trainer, "_solve", lambda *given: fitted.append(given[0]) or solved(*given))
    trainer._fit_temperature(clips, rows, target_scores, weights)
    for part in fitted:
        present = {s for s in speakers if any((part == row).all(axis=1).any() for row in rows[speakers == s])}
        assert present and present < set(speakers)
    assert len(fitted) == len(set(speakers))


def test_values_that_are_not_finite_are_refused(made):
    teacher = np.zeros((1000, 3))
    teacher[:] = np.nan
    with pytest.raises(Diverged, match="model.name ridge cannot be solved"):
        made(teacher, distill__alpha=0.5)


def test_a_bundle_in_8_bits_predicts_the_same(made, tmp_path):
    trainer = made(distill__alpha=0.0)
    bundle = Bundle(
        role="student",
        settings=trainer.settings,
        view=feature_view(trainer.settings),
        labels=trainer.data.labels,
        state=trainer.best_state,
        normaliser=trainer.normaliser,
        temperature=1.0,
        protocol="",
        metrics={},
        lineage=Lineage(),
    )
    bundle.write(tmp_path, "card", int8=True)
    small = read_bundle(tmp_path)
    predicted = trainer.best_dev_logits.argmax(axis=1)
    trainer.model.load_state_dict(small.state)
    assert (trainer.logits(trainer.data.dev).argmax(axis=1) == predicted).mean() > 0.95


def test_the_seed_changes_no_weight(made):
    one, other = (made(distill__alpha=0.5, seed=seed).best_state["layer.weight"] for seed in (0, 1))
    assert one.equal(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distill__alpha": 0.5, "distill__loss": "kl"}, "which distill.loss kl does not compare; set it to mse"),
        ({"distill__alpha": 0.5, "distill__hint": "mse"}, "has no embedding for a hint; set distill.hint to off"),
        ({"features__chunk": 40}, "set features.chunk to 0"),
        ({"augment__masks": 1}, "augment.masks is random at every step"),
    ],
)
def test_settings_without_a_closed_form_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        refuse_contradictions(settings_of(**changes))


def test_one_speaker_is_too_few_for_calibration(made):
    trainer = made()
    only = trainer.data.features.speakers[trainer.data.train[0]]
    clips = np.array([clip for clip in trainer.data.train if trainer.data.features.speakers[clip] == only])
    alone = make_trainer(trainer.settings, replace(trainer.data, train=clips))
    with pytest.raises(UserError, match="model.name ridge are calibrated by cross-validation.*which needs 2; got 1"):
        list(alone.epochs())
