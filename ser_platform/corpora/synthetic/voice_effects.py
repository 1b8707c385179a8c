"""What eSpeak NG cannot do for the `demo` corpus: pauses, tremor, tilt, loudness contour, breath, room.

Waveforms are mono float (n_samples,). No function changes its input; what is random comes from the generator.
"""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.signal import fftconvolve, resample_poly

SAMPLE_RATE = 16_000  # Hz
TILT_PIVOT_HZ = 500.0  # the tilt leaves this frequency as it is, so that it hardly changes the loudness
TILT_BAND_HZ = (125.0, 8_000.0)  # outside it the gain stays where it is
SILENCE_DB = -40.0  # relative to the peak: below this a clip's edge counts as silent
PEAK_CEILING = 0.97  # of full scale


def insert_pauses(
    waveform: np.ndarray,
    starts: Sequence[int],
    pauses_s: Sequence[float],
    sample_rate: int,
) -> np.ndarray:
    """Insert `pauses_s[i]` seconds of silence before sample `starts[i]`, with edges faded over 8 ms."""
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
    """Play the waveform faster or slower by `semitones` (n_samples,); formants and tempo move along."""
    speed = 2.0 ** (semitones / 12)
    finish = np.concatenate([[0.0], np.cumsum(1 / speed)])  # end of each input sample, in output samples
    times = np.arange(int(finish[-1]))
    positions = np.interp(times, finish, np.arange(len(finish)))
    warped: np.ndarray = map_coordinates(waveform, [positions], order=3, mode="nearest")
    return warped


def smooth_noise(n: int, cutoff_hz: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return `n` values of noise of unit deviation without content above about `cutoff_hz`."""
    knots = rng.standard_normal(max(int(n / sample_rate * 2 * cutoff_hz), 1) + 2)
    return np.interp(np.linspace(0, len(knots) - 1, n), np.arange(len(knots)), knots)


def unsteady_sine(n: int, frequency_hz: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return a sine (n,) of unit amplitude and random phase whose frequency wanders by a tenth."""
    wander = 1 + 0.1 * smooth_noise(n, 1.5, sample_rate, rng)
    return np.sin(2 * np.pi * np.cumsum(frequency_hz * wander) / sample_rate + rng.uniform(0, 2 * np.pi))


def tilt_spectrum(waveform: np.ndarray, db_per_octave: float, sample_rate: int) -> np.ndarray:
    """Turn the spectrum around TILT_PIVOT_HZ: vocal effort flattens it, softness steepens it."""
    frequencies = np.fft.rfftfreq(len(waveform), 1 / sample_rate)
    octaves = np.log2(np.clip(frequencies, *TILT_BAND_HZ) / TILT_PIVOT_HZ)
    return np.fft.irfft(np.fft.rfft(waveform) * 10 ** (db_per_octave * octaves / 20), len(waveform))


def shape_loudness(waveform: np.ndarray, contour_db: Sequence[float]) -> np.ndarray:
    """Amplify by a contour of equally spaced points, in dB, from the first sample to the last."""
    places = np.linspace(0, len(contour_db) - 1, len(waveform))
    return waveform * 10 ** (np.interp(places, np.arange(len(contour_db)), contour_db) / 20)


def add_breath(
    waveform: np.ndarray,
    breath_db: float,
    sample_rate: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Add noise that follows the voice's envelope, `breath_db` below it and without its lowest octaves."""
    window = np.hanning(sample_rate // 50)
    power = fftconvolve(waveform**2, window / window.sum(), mode="same")
    envelope = np.sqrt(np.maximum(power, 0))  # rounding in the FFT can leave it just below 0
    noise = np.diff(rng.standard_normal(len(waveform) + 1))  # +6 dB per octave
    breathy: np.ndarray = waveform + noise * envelope * 10 ** (breath_db / 20)
    return breathy


def trim_silence(waveform: np.ndarray) -> np.ndarray:
    """Cut the silent edges."""
    loud = np.flatnonzero(np.abs(waveform) > np.abs(waveform).max() * 10 ** (SILENCE_DB / 20))
    return waveform[loud[0] : loud[-1] + 1]


def resample(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Resample from `sample_rate` to SAMPLE_RATE."""
    divisor = np.gcd(SAMPLE_RATE, sample_rate)
    resampled: np.ndarray = resample_poly(waveform, SAMPLE_RATE // divisor, sample_rate // divisor)
    return resampled


def room_response(reverberation_s: float, rng: np.random.Generator) -> np.ndarray:
    """Return a small room's response at SAMPLE_RATE: the direct sound, then noise that decays by 60 dB."""
    times = np.arange(int(reverberation_s * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(times)) * 10 ** (-3 * times / reverberation_s)
    tail *= 0.25 / np.linalg.norm(tail)  # the room gives back 12 dB less than the mouth
    tail[0] = 1.0
    return tail


def add_reverberation(waveform: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Hear the waveform through a room, at its own length."""
    reverberant: np.ndarray = fftconvolve(waveform, response)[: len(waveform)]
    return reverberant


def set_level(
    waveform: np.ndarray,
    level_db: float,
    noise_db: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Scale to `level_db` (RMS of the sounding part, dBFS) over noise of `noise_db`; never clip."""
    active = np.abs(waveform) > np.abs(waveform).max() * 10 ** (SILENCE_DB / 20)
    scaled = waveform * 10 ** (level_db / 20) / np.sqrt(np.mean(waveform[active] ** 2))
    scaled = scaled + 10 ** (noise_db / 20) * rng.standard_normal(len(waveform))
    limited: np.ndarray = scaled * min(1.0, PEAK_CEILING / np.abs(scaled).max())
    return limited
