"""Speech in a room: convolution with a synthetic impulse response.

The clip keeps its length and its level; the reverberation after its end is cut.
"""

from dataclasses import dataclass

import numpy as np

from ser_platform.features.augmentation.transform import (
    Range,
    Samples,
    Transform,
    check_range,
    compute_rms,
    draw_uniform,
)


@dataclass(frozen=True)
class Reverb(Transform):
    """A synthetic room: the direct sound, then Gaussian noise that decays exponentially.

    Source: Moorer (1979), "About this reverberation business", Computer Music Journal 3(2).
    """

    rt60_s: Range = (0.2, 0.8)  # s until the tail has decayed by 60 dB; 0.4 in a living room, 1 in a lecture hall
    direct_db: Range = (0.0, 12.0)  # energy of the direct sound over that of the tail; higher is nearer

    def __post_init__(self) -> None:
        check_range("rt60_s", self.rt60_s, 0.02, 10)
        check_range("direct_db", self.direct_db, -20, 60)

    def _apply(self, samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
        import torch
        import torchaudio

        rt60_s, direct_db = draw_uniform(self.rt60_s, rng), draw_uniform(self.direct_db, rng)
        response = make_room_response(rt60_s, direct_db, sample_rate, rng)
        reverberant = torchaudio.functional.fftconvolve(torch.tensor(samples), torch.tensor(response))
        cut: Samples = reverberant[: len(samples)].numpy()
        return cut * np.float32(compute_rms(samples) / max(compute_rms(cut), 1e-12))


def make_room_response(rt60_s: float, direct_db: float, sample_rate: int, rng: np.random.Generator) -> Samples:
    """Return an impulse response `(rt60_s * sample_rate,)`: 1, then the tail."""
    n_samples = max(2, round(rt60_s * sample_rate))
    decay = 10 ** (-3 * np.arange(n_samples) / sample_rate / rt60_s)  # 60 dB are a factor of 1000
    tail = rng.standard_normal(n_samples) * decay
    tail[0] = 0
    tail *= np.sqrt(10 ** (-direct_db / 10) / np.square(tail).sum())
    tail[0] = 1
    return tail.astype(np.float32)
