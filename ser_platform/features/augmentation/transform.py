"""The base class of changes to a clip's samples: its key, and the checks of its result.

No transform clips: samples are floats, and peaks may exceed full scale. For coders that clip at full scale, the clip is
scaled down before and up again after.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.audio.reader import SILENCE_PEAK
from ser_platform.errors import BadAudio
from ser_platform.files import digest_of

Samples = NDArray[np.float32]
Range = tuple[float, float]  # lowest and highest value of a uniform distribution

KEY_LENGTH = 32  # hex digits


@dataclass(frozen=True)
class Transform(ABC):
    """A change to a clip. Fields and `version` are its key: bump `version` when the result changes.

    Every call draws new values from the given generator. Generators in the same state give the same samples, up to
    rounding of the machine's Fourier transforms and, for lossy coders, up to the version of the coder.
    """

    version: ClassVar[int] = 1

    @property
    def key(self) -> str:
        """A digest of class, fields and version."""
        values = {field.name: _to_json_value(getattr(self, field.name)) for field in fields(self)}
        return digest_of({"transform": type(self).__name__, "fields": values, "version": self.version}, KEY_LENGTH)

    def __call__(self, samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
        """Return changed samples at the same rate in Hz, `(n_samples,)` unless the class changes the length.

        Raises:
            ValueError: the samples are not mono float32.
            BadAudio: the samples are silent or not finite, or the result is (silent: 80 dB under the samples).
        """
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise ValueError(f"samples must be mono (n_samples,) float32, got {samples.shape} {samples.dtype}")
        name = type(self).__name__
        before = _measure_peak(samples, f"before {name}")
        changed = np.ascontiguousarray(self._apply(samples, sample_rate, rng), dtype=np.float32)
        if _measure_peak(changed, f"after {name}") < SILENCE_PEAK * before:
            raise BadAudio("clip", f"is silent after {name}")
        return changed

    @abstractmethod
    def _apply(self, samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples: ...


def draw_uniform(bounds: Range, rng: np.random.Generator) -> float:
    """Return a random value of a range."""
    return float(rng.uniform(*bounds))


def check_range(what: str, bounds: Range, lowest: float, highest: float) -> None:
    """Raise ValueError where a range is reversed, not a number, or not within `lowest` and `highest`."""
    low, high = bounds
    if not lowest <= low <= high <= highest:  # NaN compares as false
        raise ValueError(f"{what} must be (low, high) with {lowest:g} <= low <= high <= {highest:g}; got {bounds}")


def compute_rms(samples: Samples) -> float:
    """Return the root mean square of samples."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def fit_length(samples: Samples, n_samples: int) -> Samples:
    """Return the first `n_samples` samples, padded with zeros: resampling twice may change the length."""
    return np.pad(samples[:n_samples], (0, max(0, n_samples - len(samples))))


def _measure_peak(samples: Samples, when: str) -> float:
    peak = float(np.abs(samples).max()) if len(samples) else 0.0
    if not 0 < peak < float("inf"):  # NaN compares as false
        raise BadAudio("clip", f"is {'empty or silent' if peak == 0 else 'not finite'} {when}")
    return peak


def _to_json_value(value: object) -> object:
    """Return a field as JSON; (15, 30) and (15.0, 30.0) are one range."""
    if isinstance(value, tuple):
        return [_to_json_value(item) for item in value]
    return float(value) if isinstance(value, int | float) else value
