"""Measures one clip: its format, level, pauses, noise and fingerprint."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from ser_platform.corpora.audio.ffmpeg import find_ffmpeg_format
from ser_platform.corpora.audio.reader import SAMPLE_RATE, Audio, read_audio
from ser_platform.corpora.doctor.fingerprints import Fingerprint, compute_fingerprint

# The largest magnitude of both signs that a subtype can store; other subtypes reach 32767 / 32768 or more.
FULL_SCALE = {"PCM_S8": 127 / 128, "PCM_U8": 127 / 128, "ULAW": 32_124 / 32_768, "ALAW": 32_256 / 32_768}
FULL_SCALE_16 = 32_767 / 32_768
FRAME = SAMPLE_RATE // 50  # samples; 20 ms
SPEECH_PERCENTILE, NOISE_PERCENTILE = 95, 15  # of the frames' power
PAUSE_DB = 40.0  # below the speech level
QUANTISATION = 10**-10.1  # power of the rounding error of 16 bits; a lower power is digital silence


@dataclass(frozen=True)
class ClipMeasurements:
    """The measurements of one clip.

    Attributes:
        sha256: digest of the decoded samples, from `read_audio`.
        seconds: duration.
        sample_rate, channels, subtype: from the file's header, in Hz; the subtype is "PCM_16", "VORBIS", ...
        peak: largest magnitude; 1 is full scale.
        full_scale: number of samples at full scale; peak normalisation leaves one.
        longest_run: most of these samples in a row.
        dc_offset: mean sample of the channel where it is largest in magnitude.
        silence: share of 20 ms frames more than `PAUSE_DB` below the speech level, in [0, 1].
        snr_db: speech level over noise level.
    """

    sha256: str
    seconds: float
    sample_rate: int
    channels: int
    subtype: str
    peak: float
    full_scale: int
    longest_run: int
    dc_offset: float
    silence: float
    snr_db: float

    @property
    def is_clipped(self) -> bool:
        return self.full_scale > 1


def measure(
    path: Path, start_s: float | None = None, end_s: float | None = None
) -> tuple[ClipMeasurements, Fingerprint]:
    """Decode a clip (or the part of a file from `start_s` to `end_s`) and measure it.

    Raises:
        BadAudio: `read_audio` refuses it.
    """
    audio = read_audio(path, start_s, end_s)
    samples, sample_rate, subtype = _read_as_recorded(path, start_s, end_s, audio)
    full_scale, longest_run = measure_full_scale_runs(samples, FULL_SCALE.get(subtype, FULL_SCALE_16))
    means = samples.mean(axis=0)
    silence, snr_db = estimate_silence_and_snr(audio.waveform)
    measures = ClipMeasurements(
        sha256=audio.sha256,
        seconds=audio.duration_s,
        sample_rate=sample_rate,
        channels=samples.shape[1],
        subtype=subtype,
        peak=float(max(samples.max(), -samples.min())),
        full_scale=full_scale,
        longest_run=longest_run,
        dc_offset=float(means[np.abs(means).argmax()]),
        silence=silence,
        snr_db=snr_db,
    )
    return measures, compute_fingerprint(audio.waveform)


def _read_as_recorded(
    path: Path, start_s: float | None, end_s: float | None, audio: Audio
) -> tuple[NDArray[np.float32], int, str]:
    """Return the samples `(n_samples, n_channels)` before mixing and resampling, their rate in Hz and subtype.

    Level and format can only be measured on these. A file that ffmpeg decodes gives the mixed waveform.
    """
    if (form := find_ffmpeg_format(path)) is not None:
        return audio.waveform[:, None], SAMPLE_RATE, form.upper()
    with soundfile.SoundFile(path) as file:
        first = int((start_s or 0) * file.samplerate)
        last = file.frames if end_s is None else min(int(end_s * file.samplerate), file.frames)
        file.seek(first)
        return file.read(last - first, dtype="float32", always_2d=True), file.samplerate, file.subtype


def measure_full_scale_runs(samples: NDArray[np.float32], full_scale: float) -> tuple[int, int]:
    """Return the number of samples `(n_samples, n_channels)` at full scale, and the most of them in a row."""
    clipped = np.abs(samples) >= full_scale
    if not clipped.any():
        return 0, 0
    edges = np.diff(np.pad(clipped, ((1, 1), (0, 0))).T.astype(np.int8))  # (n_channels, n_samples + 1)
    lengths = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    return int(lengths.sum()), int(lengths.max())


def estimate_silence_and_snr(waveform: NDArray[np.float32]) -> tuple[float, float]:
    """Return the share of frames that are pauses, in [0, 1], and the ratio of speech to noise in dB.

    Speech and noise level are the 95th and the 15th percentile of the power of 20 ms frames. The ratio of a clip
    without pauses is underestimated. Source: the histogram method of `stnr` in NIST's Speech Quality Assurance
    package; percentiles: https://isip.piconepress.com/projects/speech/software/legacy/signal_to_noise
    """
    n_frames = len(waveform) // FRAME
    centred = waveform[: n_frames * FRAME] - waveform.mean()
    power = np.maximum(np.square(centred).reshape(n_frames, FRAME).mean(axis=1), QUANTISATION)
    noise, speech = np.percentile(power, [NOISE_PERCENTILE, SPEECH_PERCENTILE])
    silence = float(np.mean(power < speech * 10 ** (-PAUSE_DB / 10)))
    return silence, float(10 * np.log10(speech / noise))
