"""Hidden states of frozen encoders are stored and read like every other family."""

import shutil

import numpy as np
import pytest
import torch

from ser_platform.corpora.audio.reader import Audio, read_audio
from ser_platform.encoders import Encoder, find_encoder, find_loud_frames
from ser_platform.errors import UserError
from ser_platform.features.families import FAMILIES, encoded
from ser_platform.features.families.computation import compute_features, family_cache_key
from ser_platform.features.families.encoded import EncoderStatistics, encoder_family_name
from ser_platform.features.store.eviction import collect_garbage, list_stored_families
from ser_platform.features.store.feature_store import open_family, prepare_features, verify_store
from ser_platform.features.store.folders import families_folder
from ser_platform.features.views.view import FeatureView
from ser_platform.features.views.viewed_clips import StoredViewedClips, view_clip
from ser_platform.settings import resolve
from ser_platform.tuning.search_space.registered_names import REGISTRIES

pytestmark = pytest.mark.usefixtures("pretrained")

NAMES = ("tiny-whisper", "tiny-wav2vec2", "tiny-wavlm")


def clip(seconds: float) -> Audio:
    n_samples = round(seconds * 16_000)
    return Audio(np.random.default_rng(n_samples).normal(0, 0.1, n_samples).astype(np.float32), 16_000)


def compute(audio: Audio, name: str) -> np.ndarray:
    return compute_features(audio, [name], FAMILIES)[name]


def make_noise_with_pause() -> Audio:
    """Noise, half a second of near silence, noise."""
    noise = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    return Audio(np.concatenate([noise, 1e-3 * noise, noise]), 16_000)


@pytest.mark.parametrize("backbone", NAMES)
def test_statistics_are_mean_and_deviation_of_the_frames(backbone):
    frames, row = compute(clip(0.7), f"{backbone}.frames"), compute(clip(0.7), f"{backbone}.statistics")
    assert row.shape == (1, 4 * frames.shape[1])
    mean_std = np.concatenate([frames.mean(axis=0), frames.std(axis=0)])
    np.testing.assert_allclose(row[0], np.tile(mean_std, 2), atol=1e-5)  # all of its frames are loud


@pytest.mark.parametrize("backbone", NAMES)
def test_statistics_of_loud_frames_leave_out_pauses(backbone):
    frames, row = (
        compute(make_noise_with_pause(), f"{backbone}.frames"),
        compute(make_noise_with_pause(), f"{backbone}.statistics")[0],
    )
    n_columns = frames.shape[1]
    assert not np.allclose(row[:n_columns], row[2 * n_columns : 3 * n_columns], atol=1e-3)
    loud = np.r_[: round(0.5 / 0.02), round(1.0 / 0.02) : len(frames)]
    expected = frames[loud].mean(axis=0)
    np.testing.assert_allclose(row[2 * n_columns : 3 * n_columns], expected, atol=0.15 * np.abs(expected).max())


def test_loud_frames_are_within_thirty_decibels_of_the_loudest():
    levels = torch.tensor([0, 0, 0, -20, -20, -20, -48, -48, -48, 0, 0.0])  # dB
    samples = (10 ** (levels / 20)).repeat_interleave(320)
    loud = find_loud_frames(samples, 11, 320)
    # Levels are means over three frames: (-20 - 20 - 48) / 3 is within, (-48 - 48 + 0) / 3 is not.
    assert loud.tolist() == [True] * 6 + [False] * 3 + [True] * 2
    assert find_loud_frames(torch.zeros(100), 2, 320).tolist() == [True, True]


@pytest.mark.parametrize("backbone", NAMES)
def test_frames_are_all_states_side_by_side(backbone):
    encoder, audio = find_encoder(backbone), clip(0.5)
    frames = compute(audio, f"{backbone}.frames")
    with torch.inference_mode():
        states, _ = encoder.load()(torch.from_numpy(audio.samples)[None], torch.tensor([len(audio.samples)]))
    np.testing.assert_allclose(frames.reshape(-1, encoder.n_states, encoder.width), states[0].numpy(), atol=1e-6)


def test_an_encoder_without_a_frame_rate_has_statistics_only():
    assert np.isfinite(compute(clip(0.4), "tiny-spectrogram.statistics")).all()
    with pytest.raises(UserError, match="no frames at a fixed rate; use model.pooling statistics"):
        compute(clip(0.4), "tiny-spectrogram.frames")


@pytest.mark.parametrize("kind", ["statistics", "frames"])
def test_every_column_has_a_name(kind):
    family = FAMILIES[f"tiny-whisper.{kind}"]
    assert len(set(family.column_names)) == family.n_features == compute(clip(0.3), f"tiny-whisper.{kind}").shape[1]


def test_the_cache_key_depends_on_the_weights_not_on_the_spelling(pretrained, tmp_path):
    shutil.copytree(pretrained / "tiny-whisper", tmp_path / "tiny-whisper")
    pinned = encoder_family_name("tiny-whisper", "statistics")
    spellings = ("tiny-whisper.statistics", pinned, f"{tmp_path / 'tiny-whisper'}.statistics")
    keys = {family_cache_key(name, FAMILIES[name]) for name in spellings}
    assert len(keys) == 1 and "/" not in keys.pop()
    others = ("tiny-whisper.frames", "tiny-wav2vec2.statistics")
    assert len({family_cache_key(name, FAMILIES[name]) for name in (pinned, *others)}) == 3


def test_encoder_families_are_found_but_not_listed():
    assert "tiny-whisper.frames" in FAMILIES and "tiny-whisper.frames" not in set(FAMILIES)
    assert "tiny-whisper.means" not in FAMILIES
    with pytest.raises(KeyError):
        FAMILIES["tiny-whisper.means"]
    with pytest.raises(UserError, match="no encoder 'missing': choose from"):
        FAMILIES["missing.frames"]


def test_a_feature_set_can_be_of_an_encoder():
    settings = resolve({"features.sets": ["tiny.en.statistics"]}, REGISTRIES)
    assert settings.features.sets == ("tiny.en.statistics",)
    with pytest.raises(UserError, match="unknown features.sets 'tiny'"):
        resolve({"features.sets": ["tiny"]}, REGISTRIES)


@pytest.fixture
def stored(tones, monkeypatch, tmp_path):
    """The tone corpus with an encoder's statistics stored as float16."""
    monkeypatch.setenv("SER_HOME", str(tmp_path / "ser-home"))
    name = encoder_family_name("tiny-whisper", "statistics")
    manifest = tones.take(np.arange(6))
    prepare_features(manifest, [name], dtype="float16")
    return manifest, name


def test_a_clip_is_encoded_once(stored, monkeypatch):
    manifest, name = stored

    def load(encoder: Encoder) -> None:
        raise AssertionError("a stored clip is encoded again")

    monkeypatch.setattr(Encoder, "load", load)
    encoded._load_encoder.cache_clear()
    assert prepare_features(manifest, [name], dtype="float16").n_decoded == 0
    family = open_family(name, tuple(manifest.column("audio_sha256")), "float16")
    assert family.read_clip(0).dtype == np.float16 and family.read_clip(0).shape == (1, FAMILIES[name].n_features)


def test_training_and_prediction_have_the_same_features(stored):
    manifest, name = stored
    view = FeatureView((name,), 20, 60.0, "centre")
    clips = StoredViewedClips(view, tuple(manifest.column("audio_sha256")), dtype="float16")
    normaliser = clips.fit_normaliser(np.arange(6))
    (features,), _ = clips.batch(np.array([2]), normaliser)
    alone = view_clip(view, read_audio(list(manifest)[2].path), normaliser).features
    np.testing.assert_allclose(features, alone, atol=0.05)  # three digits are stored, then scaled
    assert np.abs(features - alone).mean() < 0.005


def test_the_store_reads_its_families_without_the_encoder(stored, forget):
    forget()
    root = families_folder()
    (listed,) = list_stored_families(root)
    assert listed.is_readable and listed.about["family"] == stored[1] and listed.n_clips == 6
    assert verify_store() > 0
    assert collect_garbage(root) == 0


def test_a_family_of_another_version_is_not_readable(stored, forget, monkeypatch):
    monkeypatch.setattr(EncoderStatistics, "version", 99)
    forget()
    (listed,) = list_stored_families(families_folder())
    assert not listed.is_readable


def test_altered_states_are_found(stored):
    (path,) = (path for path in families_folder().rglob("*.npy") if not path.name.endswith("clips.npy"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(Exception, match="were damaged"):
        verify_store()
