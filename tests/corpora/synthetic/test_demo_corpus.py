"""The synthetic corpus is complete, reproducible and audible, and its emotions are recognised in part."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import stft
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from ser_platform.corpora.synthetic import demo_corpus
from ser_platform.errors import CorpusError, MissingExtra

pytest.importorskip("espeakng_loader", reason="the demo corpus needs the extra `demo` (espeakng-loader)")

NAME = re.compile(r"03-01-0[1-8]-01-0[12]-0[12]-(0[1-9]|1[0-2])\.wav")
UP_TO_A_BREATHY_VOICE = demo_corpus.DEMO_CLIPS[:98]  # actor 04; by default the clock seeds the breath


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return demo_corpus.synthesise_corpus(tmp_path_factory.mktemp("corpora") / "demo")


@pytest.fixture(scope="module")
def waveforms(corpus) -> dict[str, np.ndarray]:
    return {path.stem: soundfile.read(path)[0] for path in sorted(corpus.rglob("*.wav"))}


@pytest.fixture
def silent_voice(monkeypatch):
    """Replace eSpeak: every clip is the same short tone."""
    tone = 0.1 * np.sin(np.arange(1600) / 10)
    monkeypatch.setattr(demo_corpus, "synthesise_clips", lambda clips: iter([tone] * len(clips)))


def test_corpus_has_384_clips_with_ravdess_names(corpus):
    paths = list(corpus.rglob("*.wav"))
    assert len(paths) == 384
    assert all(NAME.fullmatch(path.name) for path in paths)
    assert all(path.parent.name == f"Actor_{path.stem[-2:]}" for path in paths)


def test_every_speaker_has_four_clips_of_every_emotion(waveforms):
    counts = Counter((stem[6:8], stem[-2:]) for stem in waveforms)
    assert len(counts) == 8 * 12
    assert set(counts.values()) == {4}


def test_clips_are_16_khz_mono_16_bit(corpus):
    info = soundfile.info(next(corpus.rglob("*.wav")))
    assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")


def test_no_clip_is_clipped_silent_too_short_or_too_long(waveforms):
    peaks = np.array([np.abs(waveform).max() for waveform in waveforms.values()])
    seconds = np.array([len(waveform) / 16_000 for waveform in waveforms.values()])
    assert peaks.min() > 0.05
    assert peaks.max() < 0.99
    assert seconds.min() > 1.2
    assert seconds.max() < 2.8


def test_odd_actors_are_male_and_even_ones_female():
    for actor, speaker in demo_corpus.SPEAKERS.items():
        assert speaker.voice.startswith("en-us+f" if int(actor) % 2 == 0 else "en-us+m")


def test_a_second_run_gives_the_same_waveforms(waveforms):
    clips = UP_TO_A_BREATHY_VOICE
    for clip, waveform in zip(clips, demo_corpus.synthesise_clips(clips), strict=True):
        np.testing.assert_array_equal(np.round(waveform * 32767), waveforms[clip.path.stem] * 32768)


def test_other_seed_gives_other_waveforms(waveforms, monkeypatch):
    monkeypatch.setattr(demo_corpus, "SEED", 1)
    clips = demo_corpus.DEMO_CLIPS[:6]
    for clip, waveform in zip(clips, demo_corpus.synthesise_clips(clips), strict=True):
        known = waveforms[clip.path.stem]
        assert len(waveform) != len(known) or not np.allclose(waveform, known)


def test_the_readme_describes_the_clips(corpus):
    text = (corpus / demo_corpus.README).read_text()
    for fact in ("synthetic", "seed: 0", "eSpeak NG 1.", f"recipe version: {demo_corpus.RECIPE_VERSION}"):
        assert fact in text


def test_a_complete_corpus_is_not_synthesised_again(corpus, monkeypatch):
    monkeypatch.setattr(demo_corpus, "synthesise_clips", lambda clips: pytest.fail("synthesised again"))
    assert demo_corpus.synthesise_corpus(corpus) == corpus


def test_an_interrupted_run_leaves_no_files(tmp_path, monkeypatch):
    def stop_half_way(clips):
        yield from [np.ones(1600)] * (len(clips) // 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_corpus, "synthesise_clips", stop_half_way)
    root = tmp_path / "demo"
    with pytest.raises(KeyboardInterrupt):
        demo_corpus.synthesise_corpus(root)
    assert not root.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_with_a_missing_clip_is_synthesised_again(tmp_path, silent_voice):
    root = demo_corpus.synthesise_corpus(tmp_path / "demo")
    lost = root / demo_corpus.DEMO_CLIPS[7].path
    lost.unlink()
    assert not demo_corpus.is_synthesised(root)
    demo_corpus.synthesise_corpus(root)
    assert lost.is_file()


@pytest.mark.parametrize(("setting", "value", "other"), [("SEED", 0, 1), ("SEED", 10, 1), ("RECIPE_VERSION", 20, 2)])
def test_a_corpus_of_another_seed_or_recipe_is_replaced(setting, value, other, tmp_path, silent_voice, monkeypatch):
    monkeypatch.setattr(demo_corpus, setting, value)
    root = demo_corpus.synthesise_corpus(tmp_path / "demo")
    assert demo_corpus.is_synthesised(root)
    monkeypatch.setattr(demo_corpus, setting, other)
    assert not demo_corpus.is_synthesised(root)
    demo_corpus.synthesise_corpus(root)
    assert demo_corpus.is_synthesised(root)


def test_a_folder_with_other_files_is_not_changed(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CorpusError, match="something other"):
        demo_corpus.synthesise_corpus(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_missing_espeak_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_corpus.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="demo"):
        demo_corpus.synthesise_corpus(tmp_path / "demo")


def test_contours_leave_the_mean_level_to_the_level_cues():
    for rule in demo_corpus.EMOTION_RULES.values():
        assert abs(demo_corpus._sample_contour(rule.pitch_contour_st, 6).mean()) < 1e-9


def make_mel_filters(n_bands: int, n_bins: int) -> np.ndarray:
    """Return triangular filters (n_bands, n_bins), equally spaced on the mel scale from 60 Hz to 8 kHz."""
    mel_edges = np.linspace(*(2595 * np.log10(1 + np.array([60.0, 8000.0]) / 700)), n_bands + 2)
    edges = 700 * (10 ** (mel_edges / 2595) - 1)
    bins = np.linspace(0, 8000, n_bins)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))


def pool(waveform: np.ndarray) -> np.ndarray:
    """Return mean and deviation over frames of 64 log-mel bands (25 ms every 10 ms)."""
    power = np.abs(stft(waveform, nperseg=400, noverlap=240, nfft=512)[2]) ** 2
    log_mel = np.log(make_mel_filters(64, power.shape[0]) @ power + 1e-12)
    return np.concatenate([log_mel.mean(axis=1), log_mel.std(axis=1)])


def test_pooled_features_recognise_some_emotions_of_unseen_speakers(waveforms):
    features = np.stack([pool(waveform) for waveform in waveforms.values()])
    emotions = np.array([stem[6:8] for stem in waveforms])
    actors = np.array([int(stem[-2:]) for stem in waveforms])
    uars = []
    for first in (1, 5, 9):
        test = np.isin(actors, [first, first + 1, first + 2, first + 3])
        model = make_pipeline(StandardScaler(), LinearSVC(C=0.01, random_state=0))
        model.fit(features[~test], emotions[~test])
        uars.append(balanced_accuracy_score(emotions[test], model.predict(features[test])))
    assert 0.5 < np.mean(uars) < 0.9, uars
