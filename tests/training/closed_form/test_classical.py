"""Classical models: same outputs as scikit-learn, one epoch per fit, a penalty chosen on training speakers."""

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.ensemble import AdaBoostClassifier
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.neighbors import KNeighborsClassifier

from ser_platform.corpora.audio.reader import Audio
from ser_platform.corpora.lineage import Lineage
from ser_platform.corpora.splits.split import Split
from ser_platform.distillation.student_loss import make_student_loss
from ser_platform.errors import BundleError, UserError, WorkFailed
from ser_platform.features.views.viewed_clips import StoredViewedClips
from ser_platform.inference.bundle import Bundle, read_bundle
from ser_platform.inference.predictor import Predictor
from ser_platform.models import CLASSICAL, build_model
from ser_platform.models.fitted_models import LEAST_SHARE
from ser_platform.settings import Overrides, Settings, resolve
from ser_platform.training.batches.batch import TrainingData
from ser_platform.training.closed_form import classical
from ser_platform.training.closed_form.classical import ClassicalTrainer, choose_c, compute_sample_weights
from ser_platform.training.closed_form.closed_form_settings import default_classical_settings
from ser_platform.training.closed_form.estimators import fit_estimator, fit_state
from ser_platform.training.configuration import count_prediction_parameters, feature_view, refuse_contradictions
from ser_platform.training.loop import Diverged
from ser_platform.training.trainers import TrainerProtocol, make_trainer

N_FEATURES = 8
QUICK = {"model.trees": 8, "model.c": 0.1, "features.pool": "mean_std", "train.epochs": 1, "data.max_seconds": 2.0}
DRAWN = ("tree", "forest", "bagging", "adaboost", "boosting", "mlp_sklearn")  # models with random draws


def made(n_emotions: int, present: list[int] | None = None) -> tuple[Any, Any, Any]:
    """Return rows and classes to fit, and other rows."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, n_emotions, 150)
    rows = (rng.normal(size=(150, N_FEATURES)) + 1.5 * np.eye(n_emotions, N_FEATURES)[targets]).astype(np.float32)
    kept = np.isin(targets, range(n_emotions) if present is None else present)
    return rows[kept], targets[kept], rng.normal(size=(80, N_FEATURES)).astype(np.float32)


def logits_of(settings: Settings, rows: Any, targets: Any, n_emotions: int, others: Any) -> Any:
    model = build_model(settings, N_FEATURES, n_emotions)
    model.load_state_dict(fit_state(settings, rows, targets, compute_sample_weights(settings, targets), n_emotions))
    with torch.inference_mode():
        return model.eval()(torch.from_numpy(others)[:, None], torch.ones(len(others), dtype=torch.int64)).numpy()


def softmax(logits: Any) -> Any:
    return torch.from_numpy(logits).double().softmax(dim=1).numpy()


@pytest.mark.parametrize("n_emotions", [2, 5])
@pytest.mark.parametrize("name", CLASSICAL)
def test_the_exported_tensors_give_scikit_learns_outputs(name, n_emotions):
    rows, targets, others = made(n_emotions)
    settings = resolve(QUICK | {"model.name": name})
    logits = logits_of(settings, rows, targets, n_emotions, others)
    if name == "knn":
        estimator = KNeighborsClassifier(5).fit(rows, targets)
    else:
        estimator = fit_estimator(settings, rows, targets, compute_sample_weights(settings, targets))
    if name.startswith("svm"):
        distances = estimator.decision_function(others)
        if name == "svm_linear":
            distances = distances / estimator.decision_function(rows).std()
        expected = np.stack([-distances, distances], axis=1) / 2 if n_emotions == 2 else distances
        np.testing.assert_allclose(logits, expected, atol=1e-4)
    elif name in ("adaboost", "boosting", "mlp_sklearn", "logistic"):
        # scikit-learn divides AdaBoost's scores by the sum of its weights, the paper does not.
        share = estimator.estimator_weights_.sum() if name == "adaboost" else 1.0
        np.testing.assert_allclose(softmax(logits / share), estimator.predict_proba(others), atol=1e-5)
    else:
        shares = np.maximum(estimator.predict_proba(others), LEAST_SHARE)
        np.testing.assert_allclose(np.exp(logits), shares, atol=1e-6)


@pytest.mark.parametrize("c", [1e-5, 1e-2])
def test_the_penalty_of_a_linear_svm_does_not_scale_its_logits(c):
    rows, targets, _ = made(5)
    logits = logits_of(resolve({"model.name": "svm_linear", "model.c": c}), rows, targets, 5, rows)
    assert logits.std() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_class_without_a_training_clip_is_never_predicted(name):
    # A teacher of some speakers can lack one.
    rows, targets, others = made(5, present=[0, 2, 4])
    logits = logits_of(resolve(QUICK | {"model.name": name}), rows, targets, 5, others)
    assert np.isfinite(logits).all()
    assert set(logits.argmax(axis=1)) <= {0, 2, 4}


@pytest.fixture
def data_of(split: Split) -> Callable[[Settings], TrainingData]:
    """Return a function from settings to the tone corpus with its speakers."""

    def data(settings: Settings) -> TrainingData:
        manifest = split.manifest
        hashes, speakers = tuple(manifest.column("audio_sha256")), tuple(manifest.column("speaker"))
        features = StoredViewedClips(feature_view(settings), hashes, speakers)
        return TrainingData(features, manifest.encode_targets(manifest.labels), manifest.labels, split.train, split.dev)

    return data


def trained(data_of, **changes) -> tuple[TrainerProtocol, list[Any]]:
    settings = resolve(QUICK | {name.replace("__", "."): value for name, value in changes.items()})
    trainer = make_trainer(settings, data_of(settings), make_student_loss)
    return trainer, list(trainer.epochs())


@pytest.mark.parametrize("name", CLASSICAL)
def test_emotions_that_differ_in_pitch_are_learned_in_one_epoch(name, data_of):
    trainer, (result,) = trained(data_of, model__name=name)
    assert isinstance(trainer, ClassicalTrainer)
    assert (result.epoch, result.best_epoch) == (1, 1)
    dev = trainer.data.dev
    predicted = trainer.best_dev_logits.argmax(axis=1)
    assert result.dev_uar == pytest.approx(balanced_accuracy_score(trainer.data.targets[dev], predicted))
    assert result.dev_uar == result.best_dev_uar > 0.5
    expected = log_loss(trainer.data.targets[dev], softmax(trainer.best_dev_logits), labels=range(3))
    assert result.dev_loss == pytest.approx(expected, rel=1e-4)
    assert result.train_loss < math.log(3)


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_bundle_contains_the_fit_and_predicts_the_same(name, data_of, tmp_path, tone):
    trainer, _ = trained(data_of, model__name=name)
    settings, labels = trainer.settings, trainer.data.labels
    bundle = Bundle(
        role="student",
        settings=settings,
        view=trainer.data.features.view,
        labels=labels,
        state=trainer.best_state,
        normaliser=trainer.normaliser,
        temperature=1.0,
        protocol="speaker",
        metrics={},
        lineage=Lineage(),
    )
    read = read_bundle(tmp_path, bundle.write(tmp_path, "card"))
    assert not any(name.encode() in (tmp_path / "model.safetensors").read_bytes() for name in ("sklearn", "pickle"))
    for pitch, expected in ((200.0, "neutral"), (1500.0, "anger")):
        voice = tone(pitch, 0.8, level=0.3) + 0.3 * tone(2 * pitch, 0.8, level=0.3)
        noise = np.random.default_rng(0).normal(0, 1e-3, len(voice))
        clip = Audio((voice + noise).astype(np.float32), 16_000)
        prediction = Predictor(read).predict(clip)
        assert prediction.emotion == expected
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
        np.testing.assert_array_equal(
            Predictor(read).predict_probabilities(clip), Predictor(bundle).predict_probabilities(clip)
        )
    assert count_prediction_parameters(settings, len(labels), read.state) == sum(
        v.numel() for v in trainer.best_state.values()
    )


def test_a_bundle_with_an_object_in_place_of_numbers_is_refused(data_of, tmp_path):
    trainer, _ = trained(data_of, model__name="forest")
    harmful = {"skops": torch.frombuffer(bytearray(b"PK\x03\x04 os.system"), dtype=torch.uint8)}
    view, labels = trainer.data.features.view, trainer.data.labels
    settings, normaliser = trainer.settings, trainer.normaliser
    bundle = Bundle("student", settings, view, labels, harmful, normaliser, 1.0, "speaker", {}, Lineage())
    bundle.write(tmp_path, "card")
    with pytest.raises(BundleError, match=r"the weights of TreeVotes are .* got \['skops'\]"):
        Predictor(read_bundle(tmp_path))


@pytest.mark.parametrize("name", DRAWN)
def test_the_seed_determines_the_fit(name, data_of):
    first, again, other = (trained(data_of, model__name=name, seed=seed)[0].best_state for seed in (1, 1, 2))
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not all(torch.equal(value, other[key]) for key, value in first.items() if value.shape == other[key].shape)


def test_logits_are_in_the_order_of_the_given_clips(data_of):
    trainer, _ = trained(data_of, model__name="forest")
    clips = np.array([40, 3, 27, 11])
    one_by_one = np.concatenate([trainer.logits(clips[row : row + 1]) for row in range(4)])
    np.testing.assert_allclose(trainer.logits(clips), one_by_one, atol=1e-6)


def test_without_dev_clips_there_are_no_dev_metrics_and_the_fit_is_the_same(data_of):
    settings = resolve(QUICK | {"model.name": "svm_linear"})
    data = data_of(settings)
    alone, beside = ClassicalTrainer(settings, replace(data, dev=None)), ClassicalTrainer(settings, data)
    (result,), _ = alone.epochs(stop_after=3), list(beside.epochs())
    assert math.isnan(result.dev_uar) and math.isnan(result.best_dev_uar) and result.best_epoch == 1
    assert alone.best_dev_logits is None
    assert all(torch.equal(value, beside.best_state[key]) for key, value in alone.best_state.items())


def test_the_result_can_be_logged_by_its_names(data_of):
    _, (result,) = trained(data_of, model__name="knn")
    assert {"train_loss", "dev_loss", "dev_uar", "dev_war", "dev_macro_f1", "seconds"} <= asdict(result).keys()


def test_sample_weights_are_inverse_to_the_counts_or_1():
    # 3 clips of class 0 and 1 of class 2: 4 / (2 x 3) and 4 / (2 x 1)
    targets = np.array([0, 0, 0, 2])
    assert compute_sample_weights(resolve({}), targets).tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])
    assert compute_sample_weights(resolve({"train.class_weights": False}), targets).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(("how", "counts"), [("natural", [6, 12, 12]), ("undersampled", [6, 6, 6])])
def test_sampling_selects_the_clips_of_neighbours(how, counts, data_of):
    settings = resolve(QUICK | {"model.name": "knn", "train.sampling": how, "model.neighbours": 3})
    data = data_of(settings)
    first = np.flatnonzero(data.targets[data.train] == 0)
    data = replace(data, train=np.delete(data.train, first[6:]), targets=data.targets)
    expected = np.bincount(data.targets[data.train]).tolist() if how == "natural" else counts
    trainer = ClassicalTrainer(settings, data)
    list(trainer.epochs())
    assert torch.bincount(trainer.best_state["classes"]).tolist() == expected


class FakeEstimator:
    """An estimator that predicts correctly with the penalties `good`, and checks that speakers are new."""

    def __init__(self, settings: Settings, rows: Any, targets: Any, weights: Any, good: tuple[float, ...]) -> None:
        self.speakers, self.is_right = set(rows[:, 0]), settings.model.c in good
        assert len(weights) == len(rows) == len(targets)

    def predict(self, rows: Any) -> Any:
        """Rows contain the number of their speaker and their class."""
        assert self.speakers.isdisjoint(rows[:, 0])
        return rows[:, 1].astype(np.int64) if self.is_right else np.zeros(len(rows), dtype=np.int64)


@pytest.mark.parametrize(("good", "chosen"), [((1e-2,), 1e-2), ((1e-3, 1e-1), 1e-3), ((), 1e-5)])
def test_the_smallest_c_with_the_best_uar_on_held_out_speakers_is_chosen(good, chosen, monkeypatch):
    monkeypatch.setattr(classical, "fit_estimator", lambda *given: FakeEstimator(*given, good))
    speakers, targets = np.arange(40) % 8, np.arange(40) // 8 % 3
    rows = np.stack([speakers, targets], axis=1).astype(np.float32)
    assert choose_c(resolve({"model.name": "svm_linear"}), rows, targets, [f"s{n}" for n in speakers]) == chosen


def test_c_cannot_be_chosen_where_one_speaker_has_all_clips_of_a_class():
    rows, targets = np.eye(3, dtype=np.float32), np.array([0, 1, 1])
    with pytest.raises(UserError, match=r"the 3 clips of train.sampling natural are of one class; set model.c"):
        choose_c(resolve({"model.name": "svm_linear"}), rows, targets, ["a", "b", "c"])


@pytest.mark.parametrize("name", ["svm_linear", "logistic"])
def test_rotated_wide_rows_have_the_same_scores(name):
    rng = np.random.default_rng(0)
    targets = np.arange(40) % 3
    wide = (rng.normal(size=(40, 200)) + 3 * np.eye(3, 200)[targets]).astype(np.float32)
    turned = classical._rotate_to_principal_axes(wide)
    assert turned.shape == (40, 40)
    settings, weights = resolve({"model.name": name, "model.c": 0.01}), np.ones(30)
    of_wide, of_turned = (fit_estimator(settings, rows[:30], targets[:30], weights) for rows in (wide, turned))
    scores = of_wide.decision_function(wide[30:])
    np.testing.assert_allclose(of_turned.decision_function(turned[30:]), scores, atol=0.02 * scores.std())


def test_c_is_chosen_where_it_is_0_and_kept_where_it_is_not(data_of, monkeypatch):
    chosen_for = []
    monkeypatch.setattr(classical, "choose_c", lambda settings, *_: chosen_for.append(settings) or 0.1)
    chosen, given = (trained(data_of, model__name="svm_linear", model__c=c)[0].best_state for c in (0.0, 0.1))
    assert len(chosen_for) == 1
    assert torch.equal(chosen["layer.weight"], given["layer.weight"])


def test_c_cannot_be_chosen_without_known_speakers(training_data):
    settings = resolve(QUICK | {"model.name": "svm_linear", "model.c": 0})
    data = training_data(settings)
    data.features.speakers = None
    with pytest.raises(UserError, match="over training speakers, which needs 2; got 0; set model.c"):
        list(ClassicalTrainer(settings, data).epochs())


def test_diverged_boosting_names_the_setting_to_lower(data_of, monkeypatch):
    monkeypatch.setattr(classical, "fit_state", lambda *_: {"values": torch.tensor([1.0, float("inf")])})
    with pytest.raises(Diverged, match=r"boosting diverged; lower model.learning_rate \(2\)"):
        trained(data_of, model__name="boosting", model__learning_rate=2.0)


def test_trees_too_small_for_adaboost_are_refused(monkeypatch):
    def refuse(*_, **__):
        raise ValueError("BaseClassifier in AdaBoostClassifier ensemble is worse than random, ensemble can not be fit.")

    monkeypatch.setattr(AdaBoostClassifier, "fit", refuse)
    rows, targets, _ = made(3)
    with pytest.raises(WorkFailed, match="adaboost: .* worse than random.*; raise model.depth"):
        fit_estimator(resolve({"model.name": "adaboost"}), rows, targets, np.ones(len(rows)))


def test_more_neighbours_than_clips_are_refused(data_of):
    with pytest.raises(UserError, match=r"model.neighbours 400 is more than the \d+ training clips"):
        trained(data_of, model__name="knn", model__neighbours=400)


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("distill.alpha", 0.5, "not to a teacher's probabilities.*set it to 0"),
        ("features.chunk", 40, "set features.chunk to 0"),
        ("features.pool", "none", "set features.pool to mean_std"),
        ("augment.masks", 1, "augment.masks is random at every step.*augment.copies"),
    ],
)
def test_settings_that_need_gradient_steps_are_refused(name, setting, value, message):
    with pytest.raises(UserError, match=message) as refused:
        refuse_contradictions(resolve(QUICK | {"model.name": name, setting: value}))
    assert "\n" not in str(refused.value)


def test_other_models_accept_these_settings():
    refuse_contradictions(resolve({"distill.alpha": 0.5, "features.chunk": 40, "augment.masks": 1}))


@pytest.mark.parametrize("sets", [("egemaps",), ("compare",)])
def test_a_set_of_one_row_is_not_pooled(sets):
    overrides = {"model.name": "svm_linear", "features.sets": sets}
    settings = resolve(default_classical_settings(overrides) | overrides)
    refuse_contradictions(settings)
    assert feature_view(settings).sets == sets and settings.features.pool == "none"


@pytest.mark.parametrize("sets", [None, ("vector184",), ("log_mel", "zcr")])
def test_frames_are_pooled_by_default(sets):
    overrides: Overrides = {"model.name": "forest", **({} if sets is None else {"features.sets": sets})}
    settings = resolve({**default_classical_settings(overrides), **overrides})
    refuse_contradictions(settings)
    assert settings.features.pool == "mean_std" and settings.train.epochs == 1


def test_other_models_have_no_such_defaults():
    assert default_classical_settings({}) == default_classical_settings({"model.name": "bilstm"}) == {}
