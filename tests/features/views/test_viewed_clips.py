"""Clips through a view: equal in training and in prediction; one test for each field of a view."""

from dataclasses import replace

import numpy as np
import pytest

from ser_platform.corpora.audio.reader import Audio, read_audio
from ser_platform.errors import UserError
from ser_platform.features.families import FAMILIES
from ser_platform.features.families.computation import compute_features
from ser_platform.features.store.feature_store import prepare_features
from ser_platform.features.views.loudness import compute_gain_weights
from ser_platform.features.views.normaliser import Normaliser
from ser_platform.features.views.view import FeatureView
from ser_platform.features.views.viewed_clips import StoredViewedClips, ViewedClips, view_clip, view_speaker_clips

ALL = np.arange(3)
PLAIN = FeatureView(("log_mel", "mfcc", "zcr", "rms"), n_mfcc=13, max_seconds=0.6, crop="centre")
# One view for every field, alone and together.
VIEWS = {
    "plain": PLAIN,
    "head": replace(PLAIN, crop="head"),
    "random": replace(PLAIN, crop="random"),
    "samples": replace(PLAIN, sets=("waveform",)),
    "skip": replace(PLAIN, skip_s=0.2),
    "trim": replace(PLAIN, trim_db=6.0),
    "trim samples": replace(PLAIN, sets=("waveform",), trim_db=6.0),
    "level": replace(PLAIN, level_dbfs=-20.0),
    "zeros": replace(PLAIN, max_seconds=2.0, min_seconds=1.5),
    "repeat": replace(PLAIN, max_seconds=2.0, min_seconds=1.5, pad="repeat"),
    "reflect": replace(PLAIN, max_seconds=2.0, min_seconds=2.0, pad="reflect"),
    "utterance": replace(PLAIN, normalise="utterance"),
    "mean": replace(PLAIN, pool="mean"),
    "mean and std of whole clips": replace(PLAIN, max_seconds=9.0, pool="mean_std"),
    "extremes": replace(PLAIN, pool="mean_std_min_max", skip_s=0.1),
    "percentiles": replace(PLAIN, pool="percentiles", level_dbfs=-20.0),
    "other frames": replace(PLAIN, sets=("chroma", "f0", "centroid")),
    "together": replace(
        PLAIN, skip_s=0.1, trim_db=10.0, level_dbfs=-25.0, min_seconds=0.6, pad="reflect", normalise="utterance"
    ),
}


class ClipsInMemory:
    """A family of clips in memory, with the interface of a stored family."""

    def __init__(self, clips: list[np.ndarray]) -> None:
        self.clips = clips
        self.read: list[int] = []
        self.lengths = np.array([len(clip) for clip in clips])
        wide = [clip.astype(np.float64) for clip in clips]
        self.sums = np.stack([[clip.sum(axis=0), (clip**2).sum(axis=0)] for clip in wide])

    def read_clip(self, number: int) -> np.ndarray:
        self.read.append(number)
        return self.clips[number]


def compute_families(audios: list[Audio], view: FeatureView) -> dict[str, ClipsInMemory]:
    return {
        name: ClipsInMemory([compute_features(audio, [name], FAMILIES)[name] for audio in audios])
        for name in view.required_families
    }


@pytest.fixture
def speech(tone) -> list[Audio]:
    """Three clips that fade in and out, of 0.5, 0.7 and 1.0 s."""
    rng = np.random.default_rng(0)
    audios = []
    for seconds, pitch in ((0.5, 200.0), (0.7, 330.0), (1.0, 500.0)):
        swell = np.hanning(round(16_000 * seconds)).astype(np.float32)
        noise = rng.normal(0, 1e-3, len(swell)).astype(np.float32)
        audios.append(Audio(tone(pitch, seconds) * swell + noise, 16_000))
    return audios


def unscaled_batch(audios: list[Audio], view: FeatureView, **batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the batch of all clips, unscaled."""
    unit = Normaliser(np.zeros(view.n_features, np.float32), np.ones(view.n_features, np.float32))
    return ViewedClips(view, compute_families(audios, view)).batch(np.arange(len(audios)), unit, **batch)


def frames_of(audio: Audio, *sets: str) -> np.ndarray:
    return np.concatenate(list(compute_features(audio, sets, FAMILIES).values()), axis=1)


@pytest.mark.parametrize("name", VIEWS)
def test_training_and_prediction_have_the_same_features(name, tones):
    view = VIEWS[name]
    prepare_features(tones, view.required_families)
    stored = StoredViewedClips(view, tuple(tones.column("audio_sha256")))
    normaliser = stored.fit_normaliser(np.arange(len(tones)))
    clips = np.array([3, 50, 17, 44])
    batch, lengths = stored.batch(clips, normaliser)
    for row, utterance in enumerate(tones.take(clips)):
        predicted_on = view_clip(view, read_audio(utterance.path), normaliser).features
        assert predicted_on.shape == (lengths[row], view.n_features)
        np.testing.assert_allclose(batch[row, : lengths[row]], predicted_on, atol=1e-5)
        assert not batch[row, lengths[row] :].any()


@pytest.mark.parametrize("name", VIEWS)
def test_a_clip_has_the_same_features_in_any_batch(name, speech):
    viewed = ViewedClips(VIEWS[name], compute_families(speech, VIEWS[name]))
    normaliser = viewed.fit_normaliser(ALL)
    together, lengths = viewed.batch(ALL, normaliser, seed=1, epoch=2)
    for clip in ALL[::-1]:
        alone, _ = viewed.batch(np.array([clip]), normaliser, seed=1, epoch=2)
        np.testing.assert_array_equal(alone[0], together[clip, : lengths[clip]])


@pytest.mark.parametrize("sets", [("log_mel",), ("zcr", "rms"), ("log_mel", "mfcc", "zcr", "rms"), ("waveform",)])
def test_the_normaliser_is_the_mean_and_deviation_of_the_whole_training_clips(sets, tones):
    train = np.arange(0, len(tones), 2)
    normaliser = StoredViewedClips(
        replace(PLAIN, sets=sets, n_mfcc=40), tuple(tones.column("audio_sha256"))
    ).fit_normaliser(train)
    frames = np.concatenate([frames_of(read_audio(u.path), *sets) for u in tones.take(train)]).astype(np.float64)
    np.testing.assert_allclose(normaliser.mean, frames.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(normaliser.std, frames.std(axis=0), rtol=1e-4)


def test_without_a_gain_the_kept_frames_are_the_computed_ones(speech):
    batch, lengths = unscaled_batch(speech, PLAIN)
    assert lengths.tolist() == [51, 60, 60]
    computed = frames_of(speech[2], "log_mel", "mfcc", "zcr", "rms")
    np.testing.assert_allclose(batch[2], np.delete(computed, slice(64 + 13, 64 + 40), axis=1)[20:80], atol=1e-6)


def test_a_random_crop_is_a_part_of_the_clip_and_differs_between_epochs(speech):
    view = replace(PLAIN, sets=("rms",), crop="random")
    whole = frames_of(speech[2], "rms")[:, 0]
    drawn = [unscaled_batch(speech, view, epoch=epoch)[0][2, :, 0] for epoch in range(8)]
    begins = [next(n for n in range(42) if np.allclose(whole[n : n + 60], part, atol=1e-6)) for part in drawn]
    assert len(set(begins)) > 3
    centre = unscaled_batch(speech, replace(view, crop="centre"))[0]
    np.testing.assert_array_equal(unscaled_batch(speech, view)[0], centre)


def test_silence_at_the_ends_is_trimmed(tone):
    quiet = np.zeros(8000, np.float32)
    audio = Audio(np.concatenate([quiet, tone(300.0, 0.4), quiet]), 16_000)
    (values,), (length,) = unscaled_batch([audio], replace(PLAIN, sets=("rms",), max_seconds=9.0, trim_db=30.0))
    assert abs(length - 41) <= 2
    assert values.min() > values.max() - 30 * np.log(10) / 20


def test_trimming_keeps_a_pause(tone):
    pause = np.zeros(4800, np.float32)
    audio = Audio(np.concatenate([tone(300.0, 0.3), pause, tone(300.0, 0.3)]), 16_000)
    assert unscaled_batch([audio], replace(PLAIN, sets=("rms",), max_seconds=9.0, trim_db=30.0))[1].tolist() == [91]


@pytest.mark.parametrize(
    "name", [name for name, family in FAMILIES.items() if compute_gain_weights(family) is not None]
)
def test_a_gain_in_the_view_is_a_gain_on_the_samples(name, speech):
    view = FeatureView((name,), n_mfcc=40, max_seconds=9.0, crop="head", level_dbfs=-12.0)
    loud = [Audio(add_noise(audio), 16_000) for audio in speech]
    quiet = [Audio(audio.samples * np.float32(0.25), 16_000) for audio in loud]
    np.testing.assert_allclose(unscaled_batch(quiet, view)[0], unscaled_batch(loud, view)[0], rtol=2e-3, atol=2e-3)
    gains = ViewedClips(view, compute_families(quiet, view))._gains
    assert gains is not None
    for row, audio in enumerate(quiet):
        amplified = Audio(audio.samples * np.exp(gains[row]), 16_000)
        values = unscaled_batch(quiet, view)[0][row, : len(frames_of(amplified, name))]
        np.testing.assert_allclose(values, frames_of(amplified, name), rtol=2e-3, atol=5e-3)


def add_noise(audio: Audio) -> np.ndarray:
    """Return the samples with noise, so that no band is at its floor, also after a gain."""
    return audio.samples + np.random.default_rng(1).normal(0, 0.03, len(audio.samples)).astype(np.float32)


def test_every_clip_has_the_level_of_the_view(tone):
    audios = [Audio(tone(400.0, 1.0, level=level), 16_000) for level in (0.01, 0.5)]
    rms = unscaled_batch(audios, replace(PLAIN, sets=("rms",), max_seconds=9.0, level_dbfs=-20.0))[0][:, 5:-5]
    np.testing.assert_allclose(20 * rms / np.log(10), -20, atol=0.1)


def test_the_normaliser_has_the_statistics_of_the_frames_of_the_view(speech):
    view = replace(PLAIN, sets=("log_mel", "mfcc", "rms"), n_mfcc=40, max_seconds=9.0, level_dbfs=-20.0)
    viewed = ViewedClips(view, compute_families(speech, view))
    frames = np.concatenate([clip[:length] for clip, length in zip(*unscaled_batch(speech, view), strict=True)]).astype(
        np.float64
    )
    np.testing.assert_allclose(viewed.fit_normaliser(ALL).mean, frames.mean(axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(viewed.fit_normaliser(ALL).std, frames.std(axis=0), rtol=1e-3)


@pytest.mark.parametrize(("pad", "mode"), [("repeat", "wrap"), ("reflect", "reflect")])
def test_a_short_clip_is_padded_with_itself(pad, mode, speech):
    view = replace(PLAIN, sets=("rms",), max_seconds=3.0, min_seconds=3.0, pad=pad)
    batch, lengths = unscaled_batch(speech, view)
    assert lengths.tolist() == [300, 300, 300]
    for row, audio in enumerate(speech):
        own = frames_of(audio, "rms")
        np.testing.assert_allclose(batch[row], np.pad(own, ((0, 300 - len(own)), (0, 0)), mode), atol=1e-6)


def test_padding_with_zeros_stays_zero_after_scaling(speech):
    view = replace(PLAIN, max_seconds=3.0, min_seconds=1.0)
    viewed = ViewedClips(view, compute_families(speech, view))
    batch, lengths = viewed.batch(ALL, viewed.fit_normaliser(ALL))
    assert lengths.tolist() == [100, 100, 101]
    assert not batch[0, 51:].any() and batch[0, :51].any()


def test_a_clip_of_one_frame_is_padded_too(tone):
    families = {"rms": ClipsInMemory([np.array([[3.0]], np.float32)])}
    for pad in ("repeat", "reflect"):
        viewed = ViewedClips(replace(PLAIN, sets=("rms",), min_seconds=0.03, pad=pad), families)
        assert viewed.batch(np.array([0]), Normaliser(np.zeros(1), np.ones(1)))[0].tolist() == [[[3], [3], [3]]]


def test_each_clip_may_be_scaled_by_its_own_mean_and_deviation(speech):
    view = replace(PLAIN, max_seconds=9.0, normalise="utterance")
    viewed = ViewedClips(view, compute_families(speech, view))
    batch, lengths = viewed.batch(ALL, viewed.fit_normaliser(np.array([0])))
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(batch[row, :length].mean(axis=0), 0, atol=1e-3)
        np.testing.assert_allclose(batch[row, :length].std(axis=0), 1, atol=1e-3)


def test_a_cropped_clip_is_scaled_by_the_whole_clip(speech):
    view = replace(PLAIN, sets=("rms",), normalise="utterance")
    viewed = ViewedClips(view, compute_families(speech, view))
    whole = frames_of(speech[2], "rms")
    expected = (whole[20:80] - whole.mean()) / whole.std()
    np.testing.assert_allclose(viewed.batch(np.array([2]), viewed.fit_normaliser(ALL))[0][0], expected, atol=1e-3)


@pytest.mark.parametrize("pool", ["none", "mean_std"])
def test_each_clip_may_be_scaled_by_all_clips_of_its_speaker(pool, speech):
    view = replace(PLAIN, max_seconds=9.0, normalise="speaker", pool=pool)
    viewed = ViewedClips(view, compute_families(speech, view), speakers=["b", "a", "b"])
    batch, _ = viewed.batch(np.array([2]), viewed.fit_normaliser(np.array([1])))
    same = ViewedClips(replace(view, normalise="global"), compute_families(speech, view))
    np.testing.assert_array_equal(batch, same.batch(np.array([2]), same.fit_normaliser(np.array([0, 2])))[0])


def test_per_speaker_normalisation_requires_speakers(speech):
    view = replace(PLAIN, normalise="speaker")
    viewed = ViewedClips(view, compute_families(speech, view))
    with pytest.raises(UserError, match="the speakers are unknown"):
        viewed.batch(ALL, viewed.fit_normaliser(ALL))


def test_a_single_file_of_an_unknown_speaker_is_refused_under_per_speaker_normalisation(speech):
    view = replace(PLAIN, normalise="speaker")
    with pytest.raises(UserError, match="features.normalise speaker.*--one-speaker"):
        view_clip(view, speech[0], Normaliser.identity(view.n_features))


@pytest.mark.parametrize("pool", ["none", "mean_std"])
def test_clips_of_one_speaker_are_scaled_by_all_of_them(pool, speech):
    view = replace(PLAIN, max_seconds=9.0, normalise="speaker", pool=pool)
    trained = ViewedClips(view, compute_families(speech, view), speakers=["a"] * len(speech))
    for row, values in enumerate(view_speaker_clips(view, speech, Normaliser.identity(view.n_features))):
        expected = trained.batch(np.array([row]), Normaliser.identity(view.n_features))[0][0]
        np.testing.assert_allclose(values.features, expected, atol=1e-4)


@pytest.mark.parametrize("seconds", [0.6, 9.0])
def test_a_pooled_clip_is_statistics_of_its_frames_in_the_view(seconds, speech):
    view = replace(PLAIN, sets=("log_mel", "zcr"), max_seconds=seconds)
    shown, lengths = unscaled_batch(speech, view)
    statistics = {
        "mean": lambda x: x.mean(axis=0),
        "mean_std": lambda x: np.concatenate([x.mean(axis=0), x.std(axis=0)]),
        "mean_std_min_max": lambda x: np.concatenate([x.mean(axis=0), x.std(axis=0), x.min(axis=0), x.max(axis=0)]),
        "percentiles": lambda x: np.percentile(x, (5, 25, 50, 75, 95), axis=0).ravel(),
    }
    for pool, expected in statistics.items():
        rows, ones = unscaled_batch(speech, replace(view, pool=pool))
        assert rows.shape[1] == 1 and ones.tolist() == [1, 1, 1]
        for row, length in enumerate(lengths):
            np.testing.assert_allclose(rows[row, 0], expected(shown[row, :length].astype(np.float64)), atol=1e-3)


@pytest.mark.parametrize("pool", ["mean", "mean_std"])
def test_the_mean_and_deviation_of_whole_clips_read_no_frames(pool, speech):
    view = replace(PLAIN, max_seconds=9.0, pool=pool)
    families = compute_families(speech, view)
    viewed = ViewedClips(view, families)
    viewed.batch(ALL, viewed.fit_normaliser(ALL))
    assert not any(family.read for family in families.values())


def test_pooled_columns_are_scaled_by_their_deviation_over_training_clips(speech):
    view = replace(PLAIN, pool="mean_std_min_max")
    viewed = ViewedClips(view, compute_families(speech, view))
    rows = viewed.batch(ALL, viewed.fit_normaliser(ALL))[0][:, 0]
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(rows.std(axis=0), 1, atol=1e-3)


def test_half_precision_is_read_as_single(speech):
    families = compute_families(speech, PLAIN)
    narrow = {
        name: ClipsInMemory([clip.astype(np.float16) for clip in family.clips]) for name, family in families.items()
    }
    unit = Normaliser(np.zeros(PLAIN.n_features, np.float32), np.ones(PLAIN.n_features, np.float32))
    single, lengths = ViewedClips(PLAIN, families).batch(ALL, unit)
    half, _ = ViewedClips(PLAIN, narrow).batch(ALL, unit)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, single, rtol=1e-3, atol=1e-3)
    assert not half[0, lengths[0] :].any()


def test_batches_do_not_share_memory(speech):
    viewed = ViewedClips(PLAIN, compute_families(speech, PLAIN))
    normaliser = viewed.fit_normaliser(ALL)
    first = viewed.batch(ALL, normaliser)[0]
    kept = first.copy()
    first[:] = 7
    np.testing.assert_array_equal(viewed.batch(ALL, normaliser)[0], kept)
