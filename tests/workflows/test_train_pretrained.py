"""`ser train` of a classifier on a pretrained encoder: the encoder runs once on each clip and is part of the model."""

import io
from collections.abc import Callable

import pandas as pd
import pytest
from rich.console import Console

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.encoders import resolve_pinned_name
from ser_platform.features.dataset import DataRequest
from ser_platform.features.families import encoded
from ser_platform.inference.bundle import Bundle
from ser_platform.inference.predictor import Predictor
from ser_platform.progress import Display
from ser_platform.tracking import pyfunc
from ser_platform.tracking.mlflow_store import open_client
from ser_platform.tracking.registry import find_model, load_bundle
from ser_platform.workflows import register_candidate
from ser_platform.workflows.train import run_training
from ser_platform.workflows.train_plan import TrainRequest
from ser_platform.workflows.training_run import TrainResult

pytestmark = pytest.mark.usefixtures("pretrained", "tones")

NAMED = {"model.name": "pretrained", "model.backbone": "tiny-whisper"}
Train = Callable[..., TrainResult]


@pytest.fixture
def trained(tone_corpus, monkeypatch) -> Train:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(**settings: object) -> TrainResult:
        chosen = NAMED | {f"model.{name}": value for name, value in settings.items()}
        display = Display(Console(file=io.StringIO()))
        return run_training(
            TrainRequest("teacher", DataRequest(CorpusRequest(str(tone_corpus))), chosen, "cpu"), display
        )

    return run


def registered(reference: str = "ser-teacher@candidate") -> Bundle:
    client = open_client()
    return load_bundle(client, find_model(client, reference))


def test_another_head_uses_stored_encodings_and_predicts_without_the_encoder(trained, forget, tmp_path, monkeypatch):
    monkeypatch.setattr(register_candidate, "measure_bundle_latency_ms", lambda bundle: 1.0)  # needs the encoder
    trained()
    encoded._load_encoder.cache_clear()
    second = trained(classifier="mlp", head_size=8)
    assert encoded._load_encoder.cache_info().misses == 0  # no encoder was loaded
    pinned = resolve_pinned_name("tiny-whisper")
    forget()
    bundle = registered("ser-teacher/2")  # whether it is better on dev than version 1 does not matter
    assert bundle.settings.model.backbone == pinned and bundle.settings.model.head_size == 8
    split = second.dataset.split
    first = next(iter(split.manifest.take(split.test)))
    emotion = bundle.labels[second.test_score.predictions[0]]
    assert Predictor(bundle).predict_file(first.path).emotion == emotion
    bundle.write(tmp_path / "bundle", bundle.card)  # a bundle with one other byte is refused
    forget()
    served = pyfunc._load_pyfunc(str(tmp_path / "bundle"))
    assert served.predict(pd.DataFrame({"path": [str(first.path)]}))[0]["emotion"] == emotion


def test_a_tuned_encoder_is_registered_with_all_its_weights(trained, forget):
    done = trained(tuning="top", tuned_layers=1, head_size=8)
    forget()
    bundle = registered()
    assert any(name.startswith("encoder.body.layers.1") for name in bundle.state)
    split = done.dataset.split
    clips = list(split.manifest.take(split.test))[:2]
    predicted = [Predictor(bundle).predict_file(clip.path).emotion for clip in clips]
    assert predicted == [bundle.labels[row] for row in done.test_score.predictions[:2]]


def test_a_classical_model_can_use_an_encoder(trained, forget, tone_corpus):
    display, request = Display(Console(file=io.StringIO())), DataRequest(CorpusRequest(str(tone_corpus)))
    settings = {"model.name": "logistic", "features.sets": ("tiny-whisper.statistics",), "model.c": 0.01}
    done = run_training(TrainRequest("student", request, settings, "cpu"), display)
    forget()
    client = open_client()
    bundle = load_bundle(client, find_model(client, "ser-student@candidate"))
    first = next(iter(done.dataset.split.manifest.take(done.dataset.split.test)))
    assert Predictor(bundle).predict_file(first.path).emotion == bundle.labels[done.test_score.predictions[0]]
