"""What all tests share: caches in a temporary folder, one thread, and a small corpus of tones."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from ser_platform.corpora.finding import FoundCorpus
from ser_platform.corpora.manifest import Manifest
from ser_platform.corpora.splits import Split, split_by_speaker
from ser_platform.features.dataset import USUAL_SETS
from ser_platform.features.store import open_family, prepare
from ser_platform.features.viewed import ViewedFeatures
from ser_platform.settings import Settings
from ser_platform.training.batches import TrainingData
from ser_platform.training.configuration import feature_view

SAMPLE_RATE = 16_000  # Hz
PITCHES = {"01": 200.0, "03": 600.0, "05": 1500.0}  # Hz, by RAVDESS emotion code: neutral, happiness, anger
TAKES = (("01", "01"), ("01", "02"), ("02", "01"))  # sentence and repetition
SPEAKERS = ("01", "02", "03", "04", "05", "06")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get("SER_CORPORA"):
        reason = pytest.mark.skip(reason="SER_CORPORA is not set: no real speech here")
        for item in items:
            if item.get_closest_marker("corpora"):
                item.add_marker(reason)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _nothing_outside_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches and `runs/` in the test's own folder."""
    monkeypatch.setenv("SER_HOME", str(tmp_path / "ser-home"))
    monkeypatch.chdir(tmp_path)
    open_family.cache_clear()  # knows clips by their digest, not by SER_HOME


def sine(frequency: float, seconds: float, sample_rate: int = SAMPLE_RATE, level: float = 0.5) -> NDArray[np.float32]:
    """Return a sine `(n_samples,)` of amplitude `level`."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    return (level * np.sin(2 * np.pi * frequency * t)).astype(np.float32)


def speak_tones(root: Path, speakers: tuple[str, ...] = SPEAKERS) -> Path:
    """Write a corpus under RAVDESS names: emotions differ in pitch, speakers in timbre and level, clips in length."""
    rng = np.random.default_rng(0)
    for speaker in speakers:
        timbre, level = rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.5)
        for code, pitch in PITCHES.items():
            for sentence, repetition in TAKES:
                seconds = rng.uniform(0.5, 1.0)
                pitch_now = pitch * rng.uniform(0.95, 1.05)
                voice = sine(pitch_now, seconds, level=level) + timbre * sine(2 * pitch_now, seconds, level=level)
                path = root / f"Actor_{speaker}" / f"03-01-{code}-01-{sentence}-{repetition}-{speaker}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, voice + rng.normal(0, 1e-3, len(voice)), SAMPLE_RATE, subtype="PCM_16")
    return root


@pytest.fixture
def tone() -> Callable[..., NDArray[np.float32]]:
    return sine


@pytest.fixture
def few_tones(tmp_path: Path) -> Path:
    """A folder with 9 clips of one speaker that a test may change."""
    return speak_tones(tmp_path / "few", ("01",))


@pytest.fixture(scope="session")
def tone_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 54 clips: 6 speakers, 3 emotions, 3 takes. Read only."""
    return speak_tones(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="session")
def _tones_prepared(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    home = tmp_path_factory.mktemp("shared-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SER_HOME", str(home))
        manifest = prepare(FoundCorpus("ravdess", tone_corpus).manifest(), USUAL_SETS).manifest
    return home, manifest


@pytest.fixture
def tones(_tones_prepared: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """The tone corpus with its features stored; `SER_HOME` is where they lie. Read only."""
    home, manifest = _tones_prepared
    monkeypatch.setenv("SER_HOME", str(home))
    return manifest


@pytest.fixture
def split(tones: Manifest) -> Split:
    return split_by_speaker(tones, seed=0)


@pytest.fixture
def training_data(split: Split) -> Callable[[Settings], TrainingData]:
    """From settings to what they train on: the tone corpus, with dev speakers."""

    def data(settings: Settings) -> TrainingData:
        manifest = split.manifest
        features = ViewedFeatures(feature_view(settings), tuple(manifest.column("audio_sha256")))
        return TrainingData(features, manifest.targets(manifest.labels), manifest.labels, split.train, split.dev)

    return data
