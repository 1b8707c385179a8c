"""`import ser_platform`: what a script or a notebook uses."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import ser_platform as ser
from ser_platform.errors import BadAudio, UserError
from ser_platform.inference.model import Model
from tests.inference.test_bundle import made_bundle

RATE = 48_000  # Hz


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    made_bundle().write(folder, "card")
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return ser.load(folder)


@pytest.fixture
def samples() -> np.ndarray:
    """Return a second of a quiet tone with noise, `(n_samples,)`."""
    time = np.arange(RATE) / RATE
    noise = np.random.default_rng(0).normal(0, 0.01, RATE)
    return (0.3 * np.sin(2 * np.pi * 220 * time) + noise).astype(np.float32)


def test_importing_the_package_imports_no_heavy_library() -> None:
    heavy = "{'torch', 'ray', 'mlflow', 'optuna', 'pandas', 'numpy', 'transformers'}"
    code = f"import sys, ser_platform; print(sorted({heavy} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_a_model_in_a_folder_predicts_a_file(model: Model, samples: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    prediction = model.predict(str(path))
    assert prediction.emotion == max(prediction.probabilities, key=prediction.probabilities.__getitem__)
    assert tuple(prediction.probabilities) == model.labels
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert model.title == "small"


def test_samples_give_the_figures_of_the_file_that_contains_them(
    model: Model, samples: np.ndarray, tmp_path: Path
) -> None:
    stereo = np.stack([samples, 0.5 * samples], axis=1)
    path = tmp_path / "clip.wav"
    soundfile.write(path, stereo, RATE, subtype="FLOAT")
    assert model.predict(stereo, sample_rate=RATE) == model.predict(path)


@pytest.mark.parametrize(("subtype", "dtype"), [("PCM_16", np.int16), ("PCM_32", np.int32)])
def test_integers_are_scaled_as_in_a_file(
    model: Model, samples: np.ndarray, tmp_path: Path, subtype: str, dtype: type
) -> None:
    integers = (samples * np.iinfo(dtype).max).astype(dtype)
    path = tmp_path / "clip.wav"
    soundfile.write(path, integers, RATE, subtype=subtype)
    assert model.predict(integers, sample_rate=RATE).probabilities == pytest.approx(
        model.predict(path).probabilities, abs=1e-6
    )


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros(RATE, dtype=np.float32), RATE, "silent"),
        (np.full(RATE, np.nan, dtype=np.float32), RATE, "not finite"),
        (np.ones(10, dtype=np.float32), RATE, "at least"),
        (np.ones((2, 2, 2), dtype=np.float32), RATE, r"\(n_samples,\)"),
        (np.ones((2, RATE), dtype=np.float32), RATE, r"\(n_samples, n_channels\)"),
        (np.ones(RATE, dtype=np.complex64), RATE, "complex64"),
        (np.ones(RATE, dtype=np.float32), 100, "4000 to 192000"),
    ],
)
def test_unusable_samples_are_refused_with_the_reason(
    model: Model, samples: np.ndarray, rate: int, message: str
) -> None:
    with pytest.raises(BadAudio, match=message):
        model.predict(samples, sample_rate=rate)


def test_a_sample_rate_is_required_with_samples_and_refused_with_a_file(model: Model, samples: np.ndarray) -> None:
    with pytest.raises(TypeError, match="sample_rate"):
        model.predict(samples)
    with pytest.raises(TypeError, match="a file has its own"):
        model.predict("clip.wav", sample_rate=RATE)


def test_an_unknown_model_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="ser-nothing"):
        ser.load("ser-nothing")
