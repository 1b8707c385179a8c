"""A study over features and durations reads no audio after the extraction."""

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.features.dataset import DataRequest
from ser_platform.progress import Display
from ser_platform.tracking.mlflow_store import open_client
from ser_platform.workflows import tune
from ser_platform.workflows.tune_request import PlannedStudy

SPACE = """
role: teacher
base: {model.name: bilstm, model.hidden_size: 8, train.epochs: 2, train.batch_size: 16}
space:
  features.sets:      {subset: [log_mel, mfcc, chroma, contrast, f0], min: 1}
  features.n_mfcc:    {choice: [13, 40]}
  features.normalise: {choice: [global, utterance]}
  data.max_seconds:   {uniform: [0.3, 0.9], step: 0.1}
  data.crop:          {choice: [head, centre, random]}
  data.skip_s:        {choice: [0.0, 0.1]}
  data.trim_db:       {choice: [0, 40]}
objective: [{metric: dev_uar, direction: maximize}]
budget: {trials: 6}
confirm: {trials: 1, seeds: 1}
"""


@pytest.mark.ray
def test_features_durations_and_normalisation_are_tried_without_the_audio(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    corpus = shutil.copytree(tone_corpus, tmp_path / "speech")
    prepare = tune.prepare_dataset

    def prepare_then_lose_the_audio(*arguments, **how):
        dataset = prepare(*arguments, **how)
        corpus.rename(tmp_path / "moved away")
        return dataset

    monkeypatch.setattr(tune, "prepare_dataset", prepare_then_lose_the_audio)
    (tmp_path / "features.yaml").write_text(SPACE)
    plan = tune.TuneRequest([PlannedStudy(str(tmp_path / "features.yaml"))], DataRequest(CorpusRequest(str(corpus))))
    output = io.StringIO()
    (outcome,) = tune.tune(plan, Display(Console(file=output, width=200))).study_results
    assert not corpus.exists()
    assert outcome.state_counts["failed"] == 0
    assert outcome.state_counts["complete"] + outcome.state_counts["pruned"] == 6
    assert "54 files decoded" in output.getvalue()
    client = open_client()
    (registered,) = client.search_model_versions("name = 'ser-teacher'")
    assert registered.tags["corpus"] == "ravdess"
