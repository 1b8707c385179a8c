"""Fixtures of all tests: caches in a temporary folder, one thread, and a small corpus of tones."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from ser_platform.corpora.corpus_lookup import FoundCorpus
from ser_platform.corpora.manifest import Manifest
from ser_platform.corpora.splits.split import Split, split_by_speaker
from ser_platform.encoders import encoder_lookup
from ser_platform.features.dataset import DEFAULT_FEATURE_SETS
from ser_platform.features.families import encoded
from ser_platform.features.store.feature_store import open_family, prepare_features
from ser_platform.features.views.viewed_clips import StoredViewedClips
from ser_platform.settings import Settings
from ser_platform.tracking import store_creation
from ser_platform.training.batches.batch import TrainingData
from ser_platform.training.configuration import feature_view
from tests.tuning.kills import Forge

SAMPLE_RATE = 16_000  # Hz
PITCHES = {"01": 200.0, "03": 600.0, "05": 1500.0}  # Hz, by RAVDESS emotion code: neutral, happiness, anger
TAKES = (("01", "01"), ("01", "02"), ("02", "01"))  # sentence and repetition
SPEAKERS = ("01", "02", "03", "04", "05", "06")
CREATE_STORE = store_creation._create_store
Options = dict[str, Any]


def pytest_configure() -> None:
    """Remove Ray's variables, because a process always starts Ray as it did the first time."""
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        os.environ.pop(name, None)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not os.environ.get("SER_CORPORA"):
        reason = pytest.mark.skip(reason="SER_CORPORA is not set: no real speech here")
        for item in items:
            if item.get_closest_marker("corpora"):
                item.add_marker(reason)
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            group = "ray" if item.get_closest_marker("ray") else item.nodeid.partition("::")[0]
            item.add_marker(pytest.mark.xdist_group(group))
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not is_of_group(item, "ray"))  # the longest group starts first


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse versions of pytest and pytest-xdist that together ignore groups."""
    if getattr(session.config.option, "loadgroup", False):
        assert all("@" in item.nodeid for item in session.items), "pytest-xdist groups are not applied"


def is_of_group(item: pytest.Item, group: str) -> bool:
    return any(mark.args == (group,) for mark in item.iter_markers("xdist_group"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _new_stores_are_copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Create one MLflow store, which takes seconds, and copy it where this process would create another."""
    database = tmp_path_factory.mktemp("store") / "mlflow.db"

    def copy(path: Path) -> None:
        if not database.exists():
            CREATE_STORE(database)
        shutil.copyfile(database, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_creation, "_create_store", copy)
        yield


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new MLflow store in SQLite. Read only."""
    database = tmp_path_factory.mktemp("empty") / "mlflow.db"
    store_creation.ensure_store(database)
    return database


@pytest.fixture(scope="session")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """Runs `ser` in forks of one process, with a common `SER_HOME`, so that features are computed once."""
    with Forge(tmp_path_factory.mktemp("home")) as forge:
        yield forge


@pytest.fixture(scope="session")
def tiny_encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pretrained encoders with random weights: 2 layers of width 32, of every kind. Read only."""
    root = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(0)
    for name, (model, extractor) in tiny_models().items():
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.1)
        model.save_pretrained(root / name)
        extractor.save_pretrained(root / name)
    return root


def tiny_models() -> dict[str, tuple[Any, Any]]:
    """Return a model and its feature extractor of each kind, with group and with layer normalisation if it has both."""
    import transformers as t

    size: Options = {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
    }
    convolutions: Options = {"conv_dim": (16, 16, 16), "conv_kernel": (10, 8, 4), "conv_stride": (5, 8, 8)}
    positions: Options = {
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
        "num_feat_extract_layers": 3,
    }
    of_samples = size | convolutions | positions
    layered = of_samples | {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
    waveform_extractor = t.Wav2Vec2FeatureExtractor(do_normalize=True)
    whisper: Options = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}
    tokens: Options = {
        "vocab_size": 9,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 1,
    }
    whispers = t.WhisperConfig(**whisper, **tokens)
    spectra: Options = {"max_length": 64, "num_mel_bins": 32}
    spectrogram = t.ASTForAudioClassification(t.ASTConfig(**size, **spectra))
    return {
        "tiny-whisper": (t.WhisperForAudioClassification(whispers), t.WhisperFeatureExtractor()),
        "tiny-wav2vec2": (t.Wav2Vec2ForSequenceClassification(t.Wav2Vec2Config(**of_samples)), waveform_extractor),
        "tiny-wav2vec2-layered": (t.Wav2Vec2ForSequenceClassification(t.Wav2Vec2Config(**layered)), waveform_extractor),
        "tiny-hubert": (t.HubertForSequenceClassification(t.HubertConfig(**of_samples)), waveform_extractor),
        "tiny-wavlm": (t.WavLMForSequenceClassification(t.WavLMConfig(**of_samples)), waveform_extractor),
        "tiny-wavlm-layered": (t.WavLMForSequenceClassification(t.WavLMConfig(**layered)), waveform_extractor),
        "tiny-spectrogram": (spectrogram, t.ASTFeatureExtractor(**spectra)),
    }


@pytest.fixture
def pretrained(tiny_encoders: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of tiny encoders, which is `SER_PRETRAINED`, for a process in which none of them is registered."""
    monkeypatch.setenv("SER_PRETRAINED", str(tiny_encoders))
    forget_encoders(monkeypatch)
    return tiny_encoders


def forget_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear the registered encoders, as in a new process."""
    monkeypatch.setattr(encoder_lookup, "_registered_by_pin", {})
    for cache in (encoded._make_family, encoded._load_encoder):
        cache.cache_clear()


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that clears the registered encoders and removes SER_PRETRAINED."""

    def clear() -> None:
        monkeypatch.delenv("SER_PRETRAINED", raising=False)
        forget_encoders(monkeypatch)

    return clear


@pytest.fixture(autouse=True)
def _nothing_outside_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches and `runs/` in the test's own folder."""
    monkeypatch.setenv("SER_HOME", str(tmp_path / "ser-home"))
    monkeypatch.chdir(tmp_path)
    open_family.cache_clear()  # its key is the digest of the clips, without SER_HOME


def require_bf16_lstm() -> None:
    """Skip a test on a CPU for which oneDNN has no LSTM in bfloat16."""
    try:
        with torch.autocast("cpu", torch.bfloat16):
            torch.nn.LSTM(4, 4, bidirectional=True)(torch.zeros(2, 1, 4))
    except RuntimeError as error:
        pytest.skip(f"this CPU has no bfloat16 LSTM: {str(error)[:60]}")


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
        manifest, _ = FoundCorpus("ravdess", tone_corpus).read_manifest()
        manifest = prepare_features(manifest, DEFAULT_FEATURE_SETS).manifest
    return home, manifest


@pytest.fixture
def tones(_tones_prepared: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """The tone corpus with its features stored; `SER_HOME` contains no test evaluations. Read only."""
    home, manifest = _tones_prepared
    shutil.rmtree(home / "ledger", ignore_errors=True)  # of another test
    monkeypatch.setenv("SER_HOME", str(home))
    return manifest


@pytest.fixture
def split(tones: Manifest) -> Split:
    return split_by_speaker(tones, seed=0)


@pytest.fixture
def training_data(split: Split) -> Callable[[Settings], TrainingData]:
    """Return a function from settings to training data: the tone corpus, with dev speakers."""

    def data(settings: Settings) -> TrainingData:
        manifest = split.manifest
        hashes, speakers = tuple(manifest.column("audio_sha256")), tuple(manifest.column("speaker"))
        features = StoredViewedClips(feature_view(settings), hashes, speakers)
        return TrainingData(features, manifest.encode_targets(manifest.labels), manifest.labels, split.train, split.dev)

    return data
