"""The figure of one clip: waveform, mel bands, pitch classes and fundamental frequency over one time axis."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from ser_platform.corpora.audio.reader import Audio
from ser_platform.corpora.doctor.measurements import estimate_silence_and_snr
from ser_platform.features.families import FAMILIES
from ser_platform.features.families.analysis import SPEECH_STFT
from ser_platform.features.families.computation import compute_features
from ser_platform.features.families.pitch import F0
from ser_platform.features.views.loudness import LN_PER_DB

FIGURE_FAMILIES = ("log_mel", "chroma", "f0", "rms")
RANGE_DB = 80.0  # range of the mel bands, under the loudest
QUIET_DB = 30.0  # under the loudest frame: YIN finds pitch there in breath, noise and echoes
QUIET_ALPHA = 0.2  # opacity of the pitch classes of quiet frames, which are noise
PITCH_CLASSES = ("C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B")
MEL_TICKS = (250, 500, 1000, 2000, 4000)  # Hz
PITCH_TICKS = (60, 80, 100, 125, 150, 200, 250, 300, 400, 500, 600)  # Hz
COLUMNS = 2400  # of the waveform; more than the figure has pixels
SIZE = (10.0, 9.0)  # inches
INK, VOICE = "#2c5f8a", "#b03a2e"
Values = NDArray[np.float32]


@dataclass(frozen=True)
class ClipFacts:
    """Measurements of a clip.

    Attributes:
        seconds, sample_rate: duration, and the file's own rate in Hz.
        level_dbfs: root mean square, in dB under full scale; a sine that reaches full scale has -3.
        silence: share of 20 ms frames more than 40 dB under the speech level, in [0, 1].
        voiced: share of voiced frames, in [0, 1].
        mean_f0_hz: fundamental frequency over voiced frames; None where there are none.
    """

    seconds: float
    sample_rate: int
    level_dbfs: float
    silence: float
    voiced: float
    mean_f0_hz: float | None

    def __str__(self) -> str:
        voice = "no voice found" if self.mean_f0_hz is None else f"mean F0 {self.mean_f0_hz:.0f} Hz"
        return (
            f"{self.seconds:.2f} s, {self.sample_rate / 1000:g} kHz, {self.level_dbfs:.1f} dBFS, "
            f"{self.silence:.0%} silence, {voice}"
        )


@dataclass(frozen=True)
class AnalysedClip:
    """A clip and the features in its figure, each `(n_frames, n_features)`."""

    audio: Audio
    features: Mapping[str, Values]

    @classmethod
    def from_audio(cls, audio: Audio) -> "AnalysedClip":
        """Compute the features in the figure of a clip."""
        return cls(audio, compute_features(audio, FIGURE_FAMILIES, FAMILIES))

    @property
    def f0(self) -> Values:
        """Fundamental frequency of each frame in Hz, NaN in unvoiced frames, `(n_frames,)`."""
        hertz = self.features["f0"][:, 0]
        return np.where((hertz > 0) & ~self.is_quiet, hertz, np.float32(np.nan))

    @property
    def is_quiet(self) -> NDArray[np.bool_]:
        """Which frames are more than `QUIET_DB` under the loudest, `(n_frames,)`."""
        levels = self.features["rms"][:, 0]
        is_quiet: NDArray[np.bool_] = levels < levels.max() - QUIET_DB * LN_PER_DB
        return is_quiet

    @property
    def facts(self) -> ClipFacts:
        """The measurements of the clip."""
        power = float(np.square(self.audio.samples.astype(np.float64)).mean())
        voiced = self.f0[np.isfinite(self.f0)]
        return ClipFacts(
            seconds=self.audio.duration_s,
            sample_rate=self.audio.sample_rate,
            level_dbfs=10 * math.log10(power),
            silence=estimate_silence_and_snr(self.audio.waveform)[0],
            voiced=len(voiced) / len(self.f0),
            mean_f0_hz=float(voiced.mean()) if len(voiced) else None,
        )


def draw_clip(clip: AnalysedClip, title: str, path: Path) -> None:
    """Draw the figure of a clip and write it as PNG."""
    figure = Figure(figsize=SIZE, layout="constrained")
    # Colour bars have a column of their own, so that the time axes are aligned.
    grid = figure.add_gridspec(4, 2, width_ratios=(60, 1), height_ratios=(1.1, 1.9, 1.5, 1.3))
    panels = [figure.add_subplot(grid[0, 0])]
    panels += [figure.add_subplot(grid[row, 0], sharex=panels[0]) for row in (1, 2, 3)]
    wave, mel, chroma, pitch = panels
    _draw_waveform(wave, clip.audio)
    bar = figure.colorbar(_draw_mel(mel, clip.features["log_mel"]), cax=figure.add_subplot(grid[1, 1]))
    bar.set_label("dB under the loudest")
    image = _draw_chroma(chroma, clip.features["chroma"])
    bar = figure.colorbar(image, cax=figure.add_subplot(grid[2, 1]))
    bar.set_label("share of the largest")
    image.set_alpha(
        np.broadcast_to(np.where(clip.is_quiet, QUIET_ALPHA, 1.0), (len(PITCH_CLASSES), len(clip.is_quiet)))
    )
    _draw_f0(pitch, clip.f0)
    for panel in panels[:-1]:
        panel.tick_params(labelbottom=False)
    pitch.set_xlabel("time (s)")
    pitch.set_xlim(0, clip.audio.duration_s)
    figure.align_ylabels(panels)
    figure.suptitle(title, fontsize=13, x=0.01, ha="left", fontweight="bold")
    wave.set_title(str(clip.facts), fontsize=10.5, loc="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(path)  # without pyplot's global state: safe in any thread


def _draw_waveform(axes: Axes, audio: Audio) -> None:
    """Draw the lowest and highest sample of each column: drawing all samples takes seconds."""
    size = max(1, len(audio.samples) // COLUMNS)
    columns = audio.samples[: len(audio.samples) // size * size].reshape(-1, size)
    time = np.arange(len(columns)) * size / audio.sample_rate
    axes.fill_between(time, columns.min(axis=1), columns.max(axis=1), color=INK, linewidth=0.4)
    peak = float(np.abs(audio.samples).max())
    axes.set_ylim(-1.08 * peak, 1.08 * peak)
    axes.set_ylabel("amplitude\n(full scale 1)")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_image(axes: Axes, values: Values, cmap: str, low: float, high: float) -> AxesImage:
    """Draw values `(n_frames, n_features)` as colours; each frame is centred on its time."""
    half = SPEECH_STFT.frame_s / 2
    extent = (-half, len(values) * SPEECH_STFT.frame_s - half, -0.5, values.shape[1] - 0.5)
    return axes.imshow(
        values.T, cmap=cmap, vmin=low, vmax=high, extent=extent, aspect="auto", origin="lower", interpolation="nearest"
    )


def _draw_mel(axes: Axes, log_mel: Values) -> AxesImage:
    levels = log_mel / (2 * LN_PER_DB)  # natural log of power, to dB
    # Band centres are equally spaced in mel, from one step above 0 to one step below the highest frequency.
    step = _to_mel(SPEECH_STFT.sample_rate / 2) / (log_mel.shape[1] + 1)
    axes.set_yticks([_to_mel(hertz) / step - 1 for hertz in MEL_TICKS], [f"{hertz / 1000:g}" for hertz in MEL_TICKS])
    axes.set_ylabel("mel bands\n(kHz)")
    return _draw_image(axes, levels - levels.max(), "magma", -RANGE_DB, 0)


def _to_mel(hertz: float) -> float:
    """Return a frequency in mel on Slaney's scale (see `filters`)."""
    return 3 * hertz / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)


def _draw_chroma(axes: Axes, chroma: Values) -> AxesImage:
    axes.set_yticks(range(0, 12, 2), PITCH_CLASSES[::2])
    axes.set_ylabel("pitch class\n(pale: quiet)")
    return _draw_image(axes, chroma, "viridis", 0, 1)


def _draw_f0(axes: Axes, f0: Values) -> None:
    axes.plot(np.arange(len(f0)) * SPEECH_STFT.frame_s, f0, color=VOICE, linestyle="none", marker="o", markersize=3)
    voiced = f0[np.isfinite(f0)]
    low, high = (voiced.min(), voiced.max()) if len(voiced) else (F0().lowest_hz, F0().highest_hz)
    if len(voiced):
        axes.axhline(voiced.mean(), color=VOICE, linewidth=1, linestyle=":", label=f"mean {voiced.mean():.0f} Hz")
        axes.legend(loc="upper right", frameon=False, fontsize=9)
    else:
        axes.text(0.5, 0.5, "no voice found", transform=axes.transAxes, ha="center", va="center")
    axes.set_yscale("log")
    axes.set_ylim(0.85 * low, 1.18 * high)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticks([hertz for hertz in PITCH_TICKS if 0.85 * low <= hertz <= 1.18 * high] or [low])
    axes.yaxis.set_major_formatter("{x:.0f}")
    axes.set_ylabel("F0 (Hz)")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
