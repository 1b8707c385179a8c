"""A training starts from a registered model or a folder, also with other labels, but not if it had the test clips."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.corpora.lineage import LineageLeak
from ser_platform.errors import UserError
from ser_platform.features.dataset import DataRequest
from ser_platform.inference.bundle import Bundle
from ser_platform.progress import Display
from ser_platform.tracking.mlflow_store import open_client
from ser_platform.tracking.registry import find_model, load_bundle
from ser_platform.workflows.initial_weights import find_initial_model
from ser_platform.workflows.train import run_training
from ser_platform.workflows.train_plan import TrainRequest
from ser_platform.workflows.training_run import TrainResult

SMALL = {"model.name": "bilstm", "model.hidden_size": 8, "train.epochs": 2, "data.max_seconds": 0.5}


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def trained(corpus: Path, overrides: dict, init: str | None = None, *, allow_leak: bool = False, **split) -> tuple:
    printed = io.StringIO()
    request = DataRequest(CorpusRequest(str(corpus)), **split)
    display = Display(Console(file=printed, width=200))
    result: TrainResult = run_training(
        TrainRequest("student", request, overrides, "cpu", init=init, allow_leak=allow_leak), display
    )
    return result, printed.getvalue()


def candidate() -> Bundle:
    client = open_client()
    return load_bundle(client, find_model(client, "ser-student@candidate"))


def test_a_start_with_other_labels_keeps_the_rows_of_common_labels(tones, tone_corpus, tmp_path):
    trained(tone_corpus, SMALL | {"data.labels": "drop happiness"})
    first = candidate()
    still = {"train.epochs": 1, "optimizer.lr": 1e-7}
    result, printed = trained(tone_corpus, still, "models:/ser-student@candidate")
    assert "starts from ser-student v1 (ravdess); its classifier has one row for each emotion" in printed
    assert "neutral, anger kept; happiness random at first" in printed
    second = candidate()
    assert second.settings.model.hidden_size == 8, "the architecture is inherited"
    for name, value in first.state.items():
        rows = second.state[name]
        if name.startswith("classifier"):
            rows = rows[[second.labels.index(label) for label in first.labels]]
        torch.testing.assert_close(rows, value, atol=1e-5, rtol=0)
    assert second.provenance["init"] == "ser-student v1"
    assert {*first.lineage.trained_audio} <= {*second.lineage.trained_audio}
    assert result.model is not None
    assert "lineage leak" not in second.protocol
    first.write(tmp_path / "bundle", "card")
    _, printed = trained(tone_corpus, still | {"data.labels": "drop happiness"}, str(tmp_path / "bundle"))
    assert "the same emotions: all weights are used" in printed


def test_a_start_from_a_model_trained_on_test_speakers_is_refused_or_stamped(tones, tone_corpus):
    trained(tone_corpus, SMALL, protocol="loso", fold=1)
    with pytest.raises(
        LineageLeak, match=r"--init ser-student v1 was trained or selected on .* of the .* test clips .*--allow-leak"
    ):
        trained(tone_corpus, {}, "ser-student/1", protocol="loso", fold=2)
    result, _ = trained(tone_corpus, {}, "ser-student/1", protocol="loso", fold=2, allow_leak=True)
    assert "lineage leak: the initial model ser-student v1 was trained on" in candidate().protocol
    assert result.protocol == candidate().protocol == result.model.tags["protocol"]


def test_a_start_with_another_architecture_or_features_is_refused_by_name(tones, tone_corpus):
    trained(tone_corpus, SMALL)
    for setting, value, message in (
        ("model.name", "gru", "model.name is bilstm, not gru"),
        ("model.hidden_size", 16, "model.hidden_size is 8, not 16"),
        ("features.sets", ("mfcc",), "features.sets is log_mel, not mfcc"),
    ):
        with pytest.raises(UserError, match=message):
            trained(tone_corpus, {setting: value}, "ser-student/1")


def test_a_folder_without_a_model_is_refused(tones, tmp_path):
    with pytest.raises(UserError, match="contains no model"):
        find_initial_model(open_client(), str(tmp_path))
    with pytest.raises(UserError, match="no registered model 'ser-teacher'"):
        find_initial_model(open_client(), "ser-teacher@champion")
