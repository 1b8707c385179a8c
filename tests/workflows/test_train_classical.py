"""`ser train` of a closed-form or scikit-learn model: its defaults suffice, and the registered model predicts."""

import io
import math

import pytest
from rich.console import Console

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.evaluation.scoring import compute_logits
from ser_platform.features.dataset import DataRequest
from ser_platform.inference.predictor import Predictor
from ser_platform.models import CLASSICAL
from ser_platform.progress import Display
from ser_platform.tracking.mlflow_store import open_client
from ser_platform.tracking.registry import find_model, load_bundle
from ser_platform.training.configuration import count_prediction_parameters
from ser_platform.tuning.search_space.yaml_file import read_space
from ser_platform.workflows.train import run_training
from ser_platform.workflows.train_plan import TrainRequest


@pytest.mark.parametrize("name", ["svm_linear", "forest"])
def test_a_model_name_alone_trains_registers_and_predicts(name, tones, tone_corpus, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    request, display = DataRequest(CorpusRequest(str(tone_corpus))), Display(Console(file=io.StringIO()))
    trained = run_training(TrainRequest("student", request, {"model.name": name}, "cpu"), display)
    client = open_client()
    bundle = load_bundle(client, find_model(client, "ser-student@candidate"))
    assert bundle.settings.model.name == name and bundle.settings.features.pool == "mean_std"
    assert trained.n_parameters == count_prediction_parameters(bundle.settings, 3, bundle.state) > 0
    split = trained.dataset.split
    logits = compute_logits(bundle, split.manifest, split.test)
    assert (logits.argmax(axis=1) == trained.test_score.predictions).all()
    first = next(iter(split.manifest.take(split.test)))
    assert Predictor(bundle).predict_file(first.path).emotion == bundle.labels[trained.test_score.predictions[0]]
    run = client.get_run(trained.model.run_id)
    children = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
    (child,) = children
    assert child.data.params["model.name"] == name
    assert child.data.metrics["epochs"] == 1 and math.isfinite(child.data.metrics["dev_uar"])


def test_the_shipped_space_tries_every_classical_model(request):
    space = read_space(request.config.rootpath / "search_spaces" / "classical.yaml")
    (names,) = (axis.values for axis in space.axes if axis.name == "model.name")
    assert set(names) == set(CLASSICAL)
    assert space.scheduler.name == "none"
