"""Fingerprints match copies with another gain, rate, codec, edges or noise, and do not match another take."""

import numpy as np
import pytest
import soundfile
import soxr

from ser_platform.corpora.audio.reader import SAMPLE_RATE, read_audio
from ser_platform.corpora.doctor import fingerprints
from ser_platform.corpora.doctor.fingerprints import HOP_S, Fingerprint, compute_fingerprint, find_near_duplicates

PHONES = 14


def spoken(seed, take=0):
    """Return about 1.7 s of speech-like sound: pulses through three resonances that change from phone to phone.

    `seed` chooses sentence and speaker; another `take` has the same phones with other durations and pitch.
    """
    phones, performed = np.random.default_rng(seed), np.random.default_rng(1000 * seed + take)
    formants = phones.uniform((250, 800, 1900), (800, 1900, 3200), (PHONES, 3))
    lengths = phones.uniform(0.08, 0.16, PHONES) * performed.uniform(0.75, 1.3, PHONES)
    pitch = np.repeat(
        phones.uniform(90, 220) * performed.uniform(0.9, 1.1, PHONES), (lengths * SAMPLE_RATE).astype(int)
    )
    tracks = np.repeat(formants * performed.uniform(0.94, 1.06, formants.shape), (lengths * SAMPLE_RATE).astype(int), 0)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    wave = np.zeros(len(pitch))
    for harmonic in range(1, 30):
        nearness = np.exp(-(((harmonic * pitch[:, None] - tracks) / 120) ** 2)).sum(axis=1)
        wave += (0.02 + nearness) * np.sin(harmonic * phase) * (harmonic * pitch < 7000)
    wave += performed.normal(0, 1e-3, len(wave))
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


def through(tmp_path, waveform, name, rate=SAMPLE_RATE):
    """Return a waveform after writing it to a file of this name and rate and reading it."""
    soundfile.write(tmp_path / name, soxr.resample(waveform, SAMPLE_RATE, rate), rate)
    return read_audio(tmp_path / name).waveform


def pairs(*waveforms):
    return [
        (pair.first, pair.second) for pair in find_near_duplicates([compute_fingerprint(wave) for wave in waveforms])
    ]


DISTORTIONS = {
    "a copy": lambda wave, tmp: wave,
    "a gain of -18 dB": lambda wave, tmp: wave / 8,
    "the other polarity": lambda wave, tmp: -wave,
    "8 kHz": lambda wave, tmp: through(tmp, wave, "a.wav", 8000),
    "22.05 kHz": lambda wave, tmp: through(tmp, wave, "a.wav", 22_050),
    "mp3": lambda wave, tmp: through(tmp, wave, "a.mp3"),
    "ogg at 8 kHz": lambda wave, tmp: through(tmp, wave / 2, "a.ogg", 8000),
    "trimmed ends": lambda wave, tmp: wave[2345:-3210],
    "padded ends": lambda wave, tmp: np.pad(wave, (5001, 4000)),
    "noise at 30 dB": lambda wave, tmp: wave + noise(wave, 30),
}


def noise(wave, snr_db, seed=0):
    power = np.mean(wave**2) * 10 ** (-snr_db / 10)
    return np.random.default_rng(seed).normal(0, np.sqrt(power), len(wave)).astype(np.float32)


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_a_recording_is_found_behind(distortion, tmp_path):
    wave = spoken(seed=1)
    assert pairs(wave, spoken(seed=2), DISTORTIONS[distortion](wave, tmp_path)) == [(0, 2)]


def test_two_takes_of_a_sentence_are_two_recordings():
    assert pairs(*(spoken(seed=3, take=take) for take in range(6))) == []


def test_different_sentences_of_many_speakers_are_different_recordings():
    assert pairs(*(spoken(seed) for seed in range(40))) == []


def test_the_offset_is_where_the_second_clip_begins_in_the_first():
    wave = spoken(seed=4)
    (pair,) = find_near_duplicates([compute_fingerprint(wave), compute_fingerprint(wave[8000:])])
    assert pair.offset_s == pytest.approx(0.5, abs=HOP_S)
    (pair,) = find_near_duplicates([compute_fingerprint(wave[8000:]), compute_fingerprint(wave)])
    assert pair.offset_s == pytest.approx(-0.5, abs=HOP_S)


def test_a_copy_has_no_wrong_bit():
    wave = spoken(seed=5)
    (pair,) = find_near_duplicates([compute_fingerprint(wave), compute_fingerprint(wave)])
    assert (pair.bit_error_rate, pair.offset_s) == (0.0, 0.0)


def test_pauses_do_not_make_clips_alike():
    pause = np.random.default_rng(6).normal(0, 1e-4, 2 * SAMPLE_RATE).astype(np.float32)
    with_pauses = [np.concatenate([pause, spoken(seed), pause]) for seed in range(6)]
    assert pairs(*with_pauses) == []


def test_steady_tones_and_hums_match_nothing(tone):
    tones = [tone(pitch, 2.0, level=level) for pitch in (50.0, 200.0, 440.0) for level in (0.1, 0.3)]
    hum = [tone(100.0, 2.0) + noise(tone(100.0, 2.0), 40, seed) for seed in range(4)]
    assert pairs(*tones, *hum) == []


def test_noises_are_different_recordings():
    rng = np.random.default_rng(7)
    assert pairs(*(rng.normal(0, 0.1, 32_000).astype(np.float32) for _ in range(30))) == []


def test_very_short_clips_have_no_near_duplicates():
    assert pairs(spoken(seed=8)[:3200], spoken(seed=8)[:3200]) == []


def test_no_fingerprints_have_no_pairs():
    assert find_near_duplicates([]) == []


def test_a_hundred_copies_are_one_chain(monkeypatch):
    monkeypatch.setattr(fingerprints, "MAX_WORD_PLACES", 10)
    wave = spoken(seed=9)
    copies = [compute_fingerprint(wave + noise(wave, 40, seed=each)) for each in range(100)]
    reached = {0}
    for pair in find_near_duplicates(copies):
        if pair.first in reached:
            reached.add(pair.second)
    assert reached == set(range(100))


def test_work_in_small_portions_finds_the_same(monkeypatch):
    prints = [compute_fingerprint(spoken(seed)) for seed in range(8)] + [
        compute_fingerprint(spoken(seed) / 3) for seed in range(8)
    ]
    at_once = find_near_duplicates(prints)
    monkeypatch.setattr(fingerprints, "MAX_FRAMES_AT_ONCE", 500)
    assert find_near_duplicates(prints) == at_once
    assert [(pair.first, pair.second) for pair in at_once] == [(seed, seed + 8) for seed in range(8)]


def test_the_flipped_word_differs_in_one_bit():
    found = compute_fingerprint(spoken(seed=10))
    assert {int(each).bit_count() for each in found.words ^ found.flipped} == {1}


def test_words_that_all_clips_share_cost_no_quadratic_time():
    rng = np.random.default_rng(11)
    hum = np.full(200, 0x5A5A5A5A, dtype=np.uint32)
    prints = [
        Fingerprint(hum, rng.integers(0, 1 << 32, 200, dtype=np.uint32), np.ones(200, np.bool_)) for _ in range(2000)
    ]
    index = fingerprints._Index(prints)
    assert len(index._shared_words()) < 2 * 400_000
    assert find_near_duplicates(prints) == []
