"""Random changes to training batches, computed on the device with new draws at every step.

Samples are changed first, then clips are mixed, then masked. Batches are normalised, and 0 beyond a clip's end: 0 is
the mean of a column, and near silence for samples. The few numbers of a clip are drawn on the CPU, so that a seed has
the same effect on every device; noise is drawn on the device.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio
from numpy.typing import NDArray
from torch import Tensor

from ser_platform.features.families import FEATURE_SETS
from ser_platform.models.masking import frame_mask
from ser_platform.settings import Settings
from ser_platform.training.batches.batch import Batch
from ser_platform.training.configuration import takes_waveform

MASKED_PERCENT = 15  # largest width of one mask, of a clip's frames or of the columns
FILTER_POINTS = 5
NOISE_SPAN_DB = 15.0  # dB from the lowest to the highest signal-to-noise ratio
AUGMENTATION_STREAM = 0xA46  # augmentation has a random stream of its own: it changes no other draw


class BatchAugmenter:
    """The random changes of a configuration; with every setting off it returns the batch itself.

    The states of `rng` and of `noise`, a generator on the device, determine the next changes.
    """

    def __init__(self, settings: Settings, n_emotions: int, device: torch.device) -> None:
        self.rng = np.random.default_rng([AUGMENTATION_STREAM, settings.seed])
        self.noise = torch.Generator(device).manual_seed(settings.seed ^ AUGMENTATION_STREAM)
        self._changes: list[Callable[[Batch], Batch]] = []
        chosen, is_waveform = settings.augment, takes_waveform(settings)
        if is_waveform and chosen.gain_db:
            self._add(change_gain, most_db=chosen.gain_db)
        if is_waveform and chosen.time_shift_s:
            self._add(shift_in_time, most=round(chosen.time_shift_s / FEATURE_SETS["waveform"].frame_s))
        if is_waveform and chosen.noise_snr_db:
            self._add(add_noise, snr_db=chosen.noise_snr_db, generator=self.noise)
        if chosen.crop < 1:
            self._add(crop, least_share=chosen.crop)
        if chosen.stretch:
            self._add(stretch_spectra, most=chosen.stretch)
        if chosen.filter and not is_waveform:
            self._add(filter_columns, most=chosen.filter)
        if chosen.mixup:
            self._add(mixup, alpha=chosen.mixup, temperature=settings.distill.temperature, n_emotions=n_emotions)
        if chosen.masks:
            self._add(mask_spectra, n_masks=chosen.masks)

    def __call__(self, batch: Batch) -> Batch:
        """Return a changed batch; `batch` itself stays the same."""
        for change in self._changes:
            batch = change(batch)
        return batch

    def _add(self, change: Callable[..., Batch], **options: Any) -> None:
        self._changes.append(partial(change, rng=self.rng, **options))


def filter_columns(batch: Batch, most: float, rng: np.random.Generator) -> Batch:
    """Add a gain in [-`most`, `most`] to each column, the same in all frames of a clip: an equaliser of log spectra.

    `FILTER_POINTS` gains per clip are spaced evenly over the columns and interpolated linearly. Source: FilterAugment,
    linear type, Nam, Kim & Park (2022), arXiv:2110.03282, which also draws positions and number of the points.
    """
    n_clips, n_frames, n_columns = batch.features.shape
    points = _to_device(batch, rng.uniform(-most, most, (n_clips, 1, FILTER_POINTS)).astype(np.float32))
    gains = F.interpolate(points, n_columns, mode="linear", align_corners=True)
    return replace(batch, features=batch.features + gains * frame_mask(batch.lengths, n_frames)[:, :, None])


def stretch_spectra(batch: Batch, most: float, rng: np.random.Generator) -> Batch:
    """Stretch each spectrum along time by a factor in 1 +/- `most` (tempo), and along columns in 1 +/- `most` / 2.

    Stretched columns imitate another vocal tract length; the last column fills missing columns. Sources: random resize
    crop of BYOL-A, Niizumi et al. (2021), arXiv:2103.06695; vocal tract length perturbation, Jaitly & Hinton (2013).
    """
    n_clips, n_frames, n_columns = batch.features.shape
    tempo, tract = rng.uniform(1 - most, 1 + most, n_clips), rng.uniform(1 - most / 2, 1 + most / 2, n_clips)
    in_time, in_columns = (_to_device(batch, factors.astype(np.float32)) for factors in (tempo, tract))
    lengths = (batch.lengths * in_time).round().long().clamp_min(1)
    frames = torch.arange(int(lengths.max()), device=lengths.device) / in_time[:, None]
    frames = torch.minimum(frames, (batch.lengths - 1)[:, None])
    columns = torch.arange(n_columns, device=lengths.device) / in_columns[:, None]
    places = [2 * frames / max(1, n_frames - 1) - 1, 2 * columns / max(1, n_columns - 1) - 1]
    shape = (n_clips, frames.shape[1], n_columns)
    grid = torch.stack([places[1][:, None].expand(shape), places[0][:, :, None].expand(shape)], dim=-1)
    found = F.grid_sample(batch.features[:, None], grid, padding_mode="border", align_corners=True)[:, 0]
    return replace(batch, features=found * frame_mask(lengths, frames.shape[1])[:, :, None], lengths=lengths)


def mask_spectra(batch: Batch, n_masks: int, rng: np.random.Generator) -> Batch:
    """Set `n_masks` ranges of frames, and as many ranges of columns, of each clip to zero, the mean of a column.

    A range has up to 15 % of the clip's frames, or of the columns, but at most 1 where that is less than 1. A single
    frame or column is never masked. Source: SpecAugment, Park et al. (2019), arXiv:1904.08779, without time warping.
    """
    n_clips, n_frames, n_columns = batch.features.shape
    draws = _to_device(batch, rng.random((4, n_masks, n_clips), dtype=np.float32))
    # A product takes a quarter of the time of masked_fill on CPUs.
    features = batch.features * ~_stretches(batch.lengths, n_frames, draws[0], draws[1])[:, :, None]
    if n_columns > 1:
        columns = torch.full_like(batch.lengths, n_columns)
        features *= ~_stretches(columns, n_columns, draws[2], draws[3])[:, None, :]
    return replace(batch, features=features)


def _stretches(lengths: Tensor, size: int, width_draws: Tensor, place_draws: Tensor) -> Tensor:
    """Return a mask `(batch, size)`, True inside a range; lengths `(batch,)`, draws `(n_masks, batch)` in [0, 1)."""
    widest = (lengths * MASKED_PERCENT // 100).clamp_min(1) * (lengths > 1)
    widths = (width_draws * (widest + 1)).long()
    firsts = (place_draws * (lengths - widths + 1)).long()
    positions = torch.arange(size, device=lengths.device)
    masked = torch.zeros((len(lengths), size), dtype=torch.bool, device=lengths.device)
    for first, last in zip(firsts, firsts + widths, strict=True):
        masked |= (positions >= first[:, None]) & (positions < last[:, None])
    return masked


def mixup(batch: Batch, alpha: float, n_emotions: int, temperature: float, rng: np.random.Generator) -> Batch:
    """Mix each clip with another clip of the batch: features, targets, teacher logits and embeddings.

    The share of the clip itself is drawn from Beta(`alpha`, `alpha`). A mixture is as long as the longer clip. Targets
    become probabilities `(batch, n_emotions)`. The softmax of the new teacher logits at `temperature` is the mixture of
    both clips' probabilities at that temperature.

    Source: Zhang, Cisse, Dauphin & Lopez-Paz (2018), arXiv:1710.09412.
    """
    n_clips = len(batch.targets)
    share = _to_device(batch, rng.beta(alpha, alpha, n_clips).astype(np.float32))
    partner = _to_device(batch, rng.permutation(n_clips))
    targets = F.one_hot(batch.targets, n_emotions).to(share.dtype)
    teacher = batch.teacher_logits
    if teacher is not None:
        logs = F.log_softmax(teacher / temperature, dim=1)
        own, other = share.log()[:, None] + logs, torch.log1p(-share)[:, None] + logs[partner]
        teacher = temperature * torch.logaddexp(own, other)
    embeddings = batch.teacher_embeddings
    if embeddings is not None:
        embeddings = torch.lerp(embeddings[partner], embeddings, share[:, None])
    return Batch(
        torch.lerp(batch.features[partner], batch.features, share[:, None, None]),
        torch.maximum(batch.lengths, batch.lengths[partner]),
        torch.lerp(targets[partner], targets, share[:, None]),
        teacher,
        teacher_embeddings=embeddings,
    )


def crop(batch: Batch, least_share: float, rng: np.random.Generator) -> Batch:
    """Keep a random part of each clip, whose share of the clip is drawn from [`least_share`, 1]."""
    draws = _to_device(batch, rng.random((2, len(batch.lengths)), dtype=np.float32))
    share = least_share + (1 - least_share) * draws[0]
    lengths = torch.minimum((share * batch.lengths).ceil().long().clamp_min(1), batch.lengths)
    first = (draws[1] * (batch.lengths - lengths + 1)).long()
    margin = math.ceil((1 - least_share) * batch.features.shape[1])
    return replace(batch, features=_shift_frames(batch.features, first, lengths, margin), lengths=lengths)


def shift_in_time(batch: Batch, most: int, rng: np.random.Generator) -> Batch:
    """Move each clip by up to `most` frames, at most half its length, to either side; the gap is zero."""
    shift = _to_device(batch, rng.integers(-most, most + 1, len(batch.lengths)))
    half = batch.lengths // 2
    first = -torch.maximum(torch.minimum(shift, half), -half)
    margin = min(most, batch.features.shape[1] // 2)
    return replace(batch, features=_shift_frames(batch.features, first, batch.lengths, margin))


def _shift_frames(features: Tensor, first: Tensor, lengths: Tensor, margin: int) -> Tensor:
    """Return `lengths` frames of each clip from frame `first` on, both `(batch,)`; 0 outside the clip.

    `margin` is the largest magnitude of `first`. Windows of a padded copy take a tenth of the time of indexing.
    """
    n_clips, n_frames = features.shape[:2]
    windows = F.pad(features, (0, 0, margin, margin)).unfold(1, n_frames, 1)
    moved = windows[torch.arange(n_clips, device=features.device), first + margin].transpose(1, 2).contiguous()
    return moved.mul_(frame_mask(lengths, n_frames)[:, :, None])


def change_gain(batch: Batch, most_db: float, rng: np.random.Generator) -> Batch:
    """Multiply each clip of samples by a gain in [-`most_db`, `most_db`] dB, without clipping."""
    decibels = rng.uniform(-most_db, most_db, len(batch.lengths))
    gains = _to_device(batch, (10 ** (decibels / 20)).astype(np.float32))
    return replace(batch, features=batch.features * gains[:, None, None])


def add_noise(batch: Batch, snr_db: float, rng: np.random.Generator, generator: torch.Generator) -> Batch:
    """Add white noise to clips of samples at signal-to-noise ratios in [`snr_db`, `snr_db` + 15] dB.

    `generator` is on the batch's device. The ratio refers to the clip's own samples; the padding stays 0.
    """
    samples = batch.features[:, :, 0]
    ratios = rng.uniform(snr_db, snr_db + NOISE_SPAN_DB, len(samples)).astype(np.float32)
    noise = torch.randn(samples.shape, generator=generator, device=samples.device)
    noise *= frame_mask(batch.lengths, samples.shape[1])
    noisy = torchaudio.functional.add_noise(samples, noise, _to_device(batch, ratios), batch.lengths)
    return replace(batch, features=noisy[:, :, None])


def _to_device(batch: Batch, values: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(values).to(batch.features.device)
