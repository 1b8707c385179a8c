"""`ser train` and `ser evaluate` on tones: one fold registers a model, several folds give a pooled score."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.corpora.lineage import LineageLeak
from ser_platform.errors import CorpusError, UserError
from ser_platform.evaluation.assessment import assess
from ser_platform.features.dataset import DataRequest
from ser_platform.inference.bundle import Bundle
from ser_platform.metrics import uar
from ser_platform.progress import Display
from ser_platform.tracking.mlflow_store import open_client
from ser_platform.tracking.registry import find_model, load_bundle
from ser_platform.workflows.train import choose_device, run_training
from ser_platform.workflows.train_plan import TrainRequest
from ser_platform.workflows.training_run import TrainResult

FAST = {"train.epochs": 3, "model.width": 4, "model.hidden_size": 8, "data.max_seconds": 0.5}


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def display() -> Display:
    return Display(Console(file=io.StringIO()))


def request(corpus: Path, **more) -> DataRequest:
    return DataRequest(CorpusRequest(str(corpus)), **more)


def trained(corpus: Path, overrides: dict | None = None, **more) -> TrainResult:
    return run_training(TrainRequest("student", request(corpus, **more), FAST | (overrides or {}), "cpu"), display())


def candidate() -> Bundle:
    client = open_client()
    return load_bundle(client, find_model(client, "ser-student@candidate"))


def test_one_fold_registers_a_bundle_with_labels_split_and_lineage(tones, tone_corpus):
    result = trained(tone_corpus, {"data.labels": "drop happiness"})
    assert result.model is not None and result.model.aliases == ("candidate",)
    bundle = candidate()
    split = result.dataset.split
    assert bundle.labels == ("neutral", "anger")
    assert bundle.settings.data.labels == "drop happiness"
    assert bundle.protocol == "speaker"
    assert bundle.lineage.trained_speakers == split.speakers("train")
    assert not {*bundle.lineage.trained_speakers, *bundle.lineage.selected_speakers} & {*split.speakers("test")}
    assert result.n_test_evaluations == 1


def test_a_leaky_split_is_stamped_on_the_bundle_the_version_and_the_run(tones, tone_corpus):
    result = trained(tone_corpus, protocol="random", allow_leaky_split=True)
    assert result.model is not None
    stamp = "random (speakers overlap)"
    assert candidate().protocol == stamp
    assert result.model.tags["protocol"] == stamp
    client = open_client()
    assert client.get_run(result.model.run_id).data.tags["protocol"] == stamp


def cut_off(plan: TrainRequest) -> None:
    raise KeyboardInterrupt


def test_a_kill_after_registration_registers_no_second_version(tones, tone_corpus, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(TrainRequest, "remove_folder", cut_off)
        with pytest.raises(KeyboardInterrupt):
            trained(tone_corpus)
    again = run_training(TrainRequest.load_last(), display())
    assert again.model is not None and again.model.version == "1"
    (version,) = open_client().search_model_versions("name = 'ser-student'")
    assert version.tags["test_looks"] == str(again.n_test_evaluations)  # the test clips are evaluated once


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"train.precision": "fp16"}, "fp16 is not available on cpu"),
        ({"model.name": "mlp", "features.pool": "mean", "train.batch_size": 1}, "leaves a batch of one row"),
    ],
)
def test_a_refused_training_does_not_replace_an_interrupted_one(tones, tone_corpus, wrong, message):
    earlier = TrainRequest("student", request(tone_corpus), name="train-student-cut-off")
    earlier.save()
    with pytest.raises(UserError, match=message):
        trained(tone_corpus, wrong)
    assert TrainRequest.load_last().name == earlier.name


def test_several_folds_are_pooled_and_nothing_is_registered(tones, tone_corpus):
    result = trained(tone_corpus, protocol="speaker_kfold:3")
    client = open_client()
    assert result.model is None
    assert client.search_registered_models() == []
    assert int(result.test_score.matrix.sum()) == 54  # every clip is tested once
    (parent,) = [
        run
        for run in client.search_runs([client.get_experiment_by_name("ser-ravdess").experiment_id])
        if "trial" not in run.data.tags
    ]
    path = Path(client.download_artifacts(parent.info.run_id, "test/predictions.csv"))
    rows = np.loadtxt(path, delimiter=",", dtype=str, skiprows=1)
    labels = list(result.dataset.labels)
    truth, predicted = ([labels.index(word) for word in rows[:, column]] for column in (3, 4))
    assert uar(truth, predicted, 3) == pytest.approx(parent.data.metrics["test_uar"])
    assert set(rows[:, 1]) == {"1/3", "2/3", "3/3"}


def test_a_repeated_evaluation_of_a_models_own_test_clips_is_counted_once(tones, tone_corpus):
    result = trained(tone_corpus, protocol="loso", fold=2)
    found = assess(candidate(), "v1", request(tone_corpus), display(), use_own_split=True)
    assert found.part == "test"
    assert found.clips.speakers == ("ravdess-02",)
    assert found.score.uar.value == pytest.approx(result.test_score.uar.value)
    assert found.n_test_evaluations == 1


def test_a_model_is_not_scored_on_speakers_of_its_training_data(tones, tone_corpus):
    trained(tone_corpus)
    with pytest.raises(
        LineageLeak, match=r"v1 was trained or selected on \d+ of the 54 clips or their speakers \(ravdess-0\d"
    ):
        assess(candidate(), "v1", request(tone_corpus), display(), part="all")
    allowed = assess(candidate(), "v1", request(tone_corpus), display(), part="all", allow_leak=True)
    assert "lineage leak: trained on" in allowed.protocol


def test_emotions_without_a_label_of_the_model_are_refused_with_the_next_step(tones, tone_corpus):
    trained(tone_corpus, {"data.labels": "drop happiness"})
    bundle = candidate()
    with pytest.raises(CorpusError, match="happiness, which the model does not know.*--labels 'drop happiness'"):
        assess(bundle, "v1", request(tone_corpus), display(), labels="as_labelled")
    assert assess(bundle, "v1", request(tone_corpus), display()).score.matrix.shape == (2, 2)


def test_a_corpus_of_new_speakers_is_scored_whole(tones, tone_corpus):
    trained(tone_corpus)
    strangers = DataRequest(CorpusRequest(str(tone_corpus), as_name="demo"))
    bundle = candidate()
    with pytest.raises(LineageLeak):  # other names, the same audio
        assess(bundle, "v1", strangers, display(), part="all")


def test_a_missing_teacher_is_reported_before_training(tones, tone_corpus):
    with pytest.raises(UserError, match="no ser-teacher for this corpus, labels and split"):
        trained(tone_corpus, {"distill.alpha": 0.5})


def test_distillation_on_a_leaky_split_is_refused(tones, tone_corpus):
    with pytest.raises(UserError, match=r"under protocol random \(speakers overlap\).*distill.alpha=0"):
        trained(tone_corpus, {"distill.alpha": 0.5}, protocol="random", allow_leaky_split=True)


def test_the_stamp_of_leaky_folds_is_on_the_run(tones, tone_corpus, tmp_path):
    rows = [f"{path.name},{number % 3}" for number, path in enumerate(sorted(tone_corpus.rglob("*.wav")))]
    (tmp_path / "leaky.csv").write_text("path,test_fold\n" + "\n".join(rows) + "\n")
    trained(tone_corpus, protocol=f"fixed:{tmp_path / 'leaky.csv'}", allow_leaky_split=True)
    client = open_client()
    runs = client.search_runs([client.get_experiment_by_name("ser-ravdess").experiment_id])
    assert {run.data.tags["protocol"] for run in runs} == {"fixed:leaky.csv, 3 folds (speakers overlap)"}


def test_a_missing_device_is_refused():
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(UserError, match="--device tpu: this machine has no such device; choose from: auto, cpu"):
        choose_device("tpu")


def test_the_figures_of_a_run_are_the_scores(tones, tone_corpus):
    result = trained(tone_corpus)
    assert result.model is not None
    metrics = json.loads(result.model.tags["metrics"])
    assert metrics["test_uar"] == pytest.approx(result.test_score.uar.value, abs=1e-6)
    assert {"test_recall_neutral", "test_war", "test_macro_f1"} <= metrics.keys()


def test_half_precision_features_give_the_same_model_within_their_digits(tones, tone_corpus):
    full = trained(tone_corpus)
    half = trained(tone_corpus, {"features.dtype": "float16"})
    assert half.test_score.uar.value == pytest.approx(full.test_score.uar.value, abs=0.1)
    assert candidate().settings.features.dtype == "float16"
    found = assess(candidate(), "v2", request(tone_corpus), display(), use_own_split=True)
    assert found.score.uar.value == pytest.approx(half.test_score.uar.value)


def test_normalisation_by_speaker_is_stamped(tones, tone_corpus):
    result = trained(tone_corpus, {"features.normalise": "speaker"})
    assert result.model is not None
    stamp = "speaker; per-speaker normalisation"
    assert result.model.tags["protocol"] == candidate().protocol == result.protocol == stamp
    assert assess(candidate(), "v1", request(tone_corpus), display(), use_own_split=True).protocol == stamp


def test_copies_of_training_clips_are_trained_on(tones, tone_corpus):
    result = trained(tone_corpus, {"augment.copies": 1, "augment.recipe": "fourfold"})
    assert result.model is not None
