"""Effects that eSpeak NG lacks, for the `demo` corpus: pauses, tremor, tilt, loudness contour, breath, room.

Waveforms are mono float (n_samples,). No function changes its input; random numbers are drawn from the generator.
"""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.signal import fftconvolve, resample_poly

SAMPLE_RATE = 16_000  # Hz
TILT_PIVOT_HZ = 500.0  # not changed by the tilt, so that the loudness hardly changes
TILT_BAND_HZ = (125.0, 8_000.0)  # outside this band the gain is constant
SILENCE_DB = -40.0  # relative to the peak; quieter edges of a clip count as silent
PEAK_CEILING = 0.97  # of full scale


def insert_pauses(
    waveform: np.ndarray, starts: Sequence[int], pauses_s: Sequence[float], sample_rate: int
) -> np.ndarray:
    """Return the waveform with `pauses_s[i]` seconds of silence before sample `starts[i]` and 8 ms of fade."""
    pieces = np.split(waveform, starts)
    fade = int(0.008 * sample_rate)
    parts = [pieces[0]]
    for piece, pause_s in zip(pieces[1:], pauses_s, strict=True):
        if pause_s > 0 and min(len(piece), len(parts[-1])) > fade:
            ramp = np.linspace(0, 1, fade)
            parts[-1] = np.concatenate([parts[-1][:-fade], parts[-1][-fade:] * ramp[::-1]])
            piece = np.concatenate([piece[:fade] * ramp, piece[fade:]])
            parts.append(np.zeros(int(pause_s * sample_rate)))
        parts.append(piece)
    return np.concatenate(parts)


def shift_pitch(waveform: np.ndarray, semitones: np.ndarray) -> np.ndarray:
    """Return the waveform, faster or slower by `semitones` (n_samples,), with shifted formants and tempo."""
    speed = 2.0 ** (semitones / 12)
    finish = np.concatenate([[0.0], np.cumsum(1 / speed)])  # end of each input sample, in output samples
    times = np.arange(int(finish[-1]))
    positions = np.interp(times, finish, np.arange(len(finish)))
    warped: np.ndarray = map_coordinates(waveform, [positions], order=3, mode="nearest")
    return warped


def make_smooth_noise(n: int, cutoff_hz: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise (n,) of about unit deviation, without content above about `cutoff_hz`."""
    knots = rng.standard_normal(max(int(n / sample_rate * 2 * cutoff_hz), 1) + 2)
    return np.interp(np.linspace(0, len(knots) - 1, n), np.arange(len(knots)), knots)


def make_unsteady_sine(n: int, frequency_hz: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return a sine (n,) of unit amplitude and random phase whose frequency varies by about a tenth."""
    wander = 1 + 0.1 * make_smooth_noise(n, 1.5, sample_rate, rng)
    return np.sin(2 * np.pi * np.cumsum(frequency_hz * wander) / sample_rate + rng.uniform(0, 2 * np.pi))


def tilt_spectrum(waveform: np.ndarray, db_per_octave: float, sample_rate: int) -> np.ndarray:
    """Return the waveform with its spectrum tilted around TILT_PIVOT_HZ; a positive tilt is brighter."""
    frequencies = np.fft.rfftfreq(len(waveform), 1 / sample_rate)
    octaves = np.log2(np.clip(frequencies, *TILT_BAND_HZ) / TILT_PIVOT_HZ)
    return np.fft.irfft(np.fft.rfft(waveform) * 10 ** (db_per_octave * octaves / 20), len(waveform))


def shape_loudness(waveform: np.ndarray, contour_db: Sequence[float]) -> np.ndarray:
    """Return the waveform, amplified by a contour of equally spaced points in dB."""
    places = np.linspace(0, len(contour_db) - 1, len(waveform))
    return waveform * 10 ** (np.interp(places, np.arange(len(contour_db)), contour_db) / 20)


def add_breath(waveform: np.ndarray, breath_db: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return the waveform plus high-pass noise with the envelope of the voice, at `breath_db` relative to it."""
    window = np.hanning(sample_rate // 50)
    power = fftconvolve(waveform**2, window / window.sum(), mode="same")
    envelope = np.sqrt(np.maximum(power, 0))  # the rounding of the FFT can make it negative
    noise = np.diff(rng.standard_normal(len(waveform) + 1))  # +6 dB per octave
    breathy: np.ndarray = waveform + noise * envelope * 10 ** (breath_db / 20)
    return breathy


def trim_silence(waveform: np.ndarray) -> np.ndarray:
    """Return the waveform without its silent edges."""
    loud = np.flatnonzero(np.abs(waveform) > np.abs(waveform).max() * 10 ** (SILENCE_DB / 20))
    return waveform[loud[0] : loud[-1] + 1]


def resample(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the waveform, resampled from `sample_rate` to SAMPLE_RATE."""
    divisor = np.gcd(SAMPLE_RATE, sample_rate)
    resampled: np.ndarray = resample_poly(waveform, SAMPLE_RATE // divisor, sample_rate // divisor)
    return resampled


def make_room_response(reverberation_s: float, rng: np.random.Generator) -> np.ndarray:
    """Return the impulse response of a small room at SAMPLE_RATE: direct sound, then noise that decays by 60 dB."""
    times = np.arange(int(reverberation_s * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / reverberation_s)
    tail *= 0.25 / np.linalg.norm(tail)  # 12 dB below the direct sound
    tail[0] = 1.0
    return tail


def add_reverberation(waveform: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Return the waveform convolved with `response`, with unchanged length."""
    reverberant: np.ndarray = fftconvolve(waveform, response)[: len(waveform)]
    return reverberant


def set_level(waveform: np.ndarray, level_db: float, noise_db: float, rng: np.random.Generator) -> np.ndarray:
    """Return the waveform, scaled to `level_db` (RMS where it is not silent, dBFS), plus noise of `noise_db`.

    The peak is at most `PEAK_CEILING`.
    """
    active = np.abs(waveform) > np.abs(waveform).max() * 10 ** (SILENCE_DB / 20)
    scaled = waveform * 10 ** (level_db / 20) / np.sqrt(np.mean(waveform[active] ** 2))
    scaled = scaled + 10 ** (noise_db / 20) * rng.standard_normal(len(waveform))
    limited: np.ndarray = scaled * min(1.0, PEAK_CEILING / np.abs(scaled).max())
    return limited
