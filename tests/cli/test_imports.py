"""What a command imports: a verb that needs no model starts without torch, Ray, MLflow and Optuna."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.inference.test_bundle import made_bundle

HEAVY = ("torch", "torchaudio", "ray", "mlflow", "transformers", "sklearn", "librosa", "optuna")
# Run commands in one process; print the libraries that each of them imports first, as JSON.
RUN_VERBS = f"""
import contextlib, io, json, sys
from ser_platform.cli import main

imported, codes = {{}}, {{}}
for words in json.loads(sys.argv[1]):
    sys.argv = ["ser", *words]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main()
        except SystemExit as ended:
            codes[" ".join(words)] = ended.code or 0
    found = [name for name in {HEAVY} if name in sys.modules]
    imported[" ".join(words)] = [name for name in found if name not in sum(imported.values(), [])]
print(json.dumps([imported, codes]))
"""
# Open MLflow's store as MLflow documents it, then list models; print the modules of MLflow that only the verb imports.
LIST_MODELS = """
import contextlib, io, json, sys
from mlflow import MlflowClient

client = MlflowClient("sqlite:///mlflow.db", "sqlite:///mlflow.db")
client.search_experiments(max_results=1), client.search_registered_models()
before = set(sys.modules)
from ser_platform.cli import main

sys.argv = ["ser", "models", "list"]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
more = {name for name in set(sys.modules) - before if name.startswith("mlflow")}
print(json.dumps([sorted(more), sorted({"torch", "ray", "mlflow.pyfunc"} & set(sys.modules))]))
"""
REPORTS = (
    "--help",
    "--version",
    "tune --list",
    "tune student --check",
    "corpora list",
    "features list",
    "studies list",
    "schema settings",
)
REFUSALS = (
    "tune nowhere",
    "tune broken.yaml",
    "tune broken.yaml --check",
    "tune --set model.nme=3",
    "tune student --set model.name=mpl",
    "train student --set train.epochs=many",
    "models promote",
)


def run_python(code: str, folder: Path, *arguments: str) -> list[dict[str, list[str]]]:
    """Return what a new Python process in `folder` prints in its last line, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a broken search space and a stored feature family; no MLflow store is named."""
    (tmp_path / "home/features/log_mel-0123456789ab-float32").mkdir(parents=True)
    (tmp_path / "broken.yaml").write_text("role: student\nspace:\n  optimizer.lr: {choice: [slow]}\n")
    monkeypatch.setenv("SER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def test_verbs_that_need_no_model_import_no_heavy_library(folder: Path) -> None:
    verbs = json.dumps([verb.split() for verb in (*REPORTS, *REFUSALS)])
    imported, codes = run_python(RUN_VERBS, folder, verbs)
    assert {verb: names for verb, names in imported.items() if names} == {"studies list": ["optuna"]}
    assert codes == dict.fromkeys(REPORTS, 0) | dict.fromkeys(REFUSALS, 2)


def test_listing_models_imports_no_more_of_mlflow_than_its_client_does(folder: Path) -> None:
    assert run_python(LIST_MODELS, folder) == [[], []]


def test_prediction_with_the_folder_of_a_model_does_not_import_mlflow(folder: Path) -> None:
    made_bundle().write(folder / "small", "card")
    tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(16_000) / 16_000)
    soundfile.write(folder / "tone.wav", tone + np.random.default_rng(0).normal(0, 0.01, len(tone)), 16_000)
    verb = "predict tone.wav --model small"
    imported, codes = run_python(RUN_VERBS, folder, json.dumps([verb.split()]))
    assert codes == {verb: 0}
    assert "torch" in imported[verb]
    assert not {"mlflow", "ray"} & set(imported[verb])
