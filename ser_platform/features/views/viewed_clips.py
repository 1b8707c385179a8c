"""Clips through a view: batches for training, statistics for the normaliser, and single clips for prediction."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ser_platform.corpora.audio.reader import Audio
from ser_platform.errors import UserError
from ser_platform.features.families import FAMILIES
from ser_platform.features.families.computation import compute_features
from ser_platform.features.store.feature_store import open_family
from ser_platform.features.store.shard import compute_sums
from ser_platform.features.views.loudness import LN_PER_DB, RMS_FAMILY, FrameLevels
from ser_platform.features.views.normaliser import (
    GLOBAL_NORMALISATION,
    NO_NORMALISATION,
    SPEAKER_NORMALISATION,
    UTTERANCE_NORMALISATION,
    Normaliser,
)
from ser_platform.features.views.pooling import POOLS_FROM_SUMS, pool, pool_sums
from ser_platform.features.views.view import FeatureView

Rows = NDArray[np.int64]
Columns = NDArray[np.float32]
Sums = tuple[Rows, NDArray[np.float64]]  # counts `(n_clips,)`; sums and sums of squares `(n_clips, 2, n_columns)`


class FamilyClips(Protocol):
    """One family of some clips, stored or in memory."""

    @property
    def lengths(self) -> Rows:
        """Rows of each clip, `(n_clips,)`."""

    @property
    def sums(self) -> NDArray[np.float64]:
        """Sums and sums of squares over each clip's rows, `(n_clips, 2, n_features)`."""

    def read_clip(self, number: int) -> Columns:
        """Return the features `(n_frames, n_features)` of a clip."""


class ViewedClips:
    """Clips, numbered from 0, through a view. `lengths` are the frames of each in a model's input, `(n_clips,)`.

    `families` are the view's `required_families`; `speakers` has the speaker of each clip, for per-speaker
    normalisation.
    """

    def __init__(
        self, view: FeatureView, families: Mapping[str, FamilyClips], speakers: Sequence[str] | None = None
    ) -> None:
        self.view = view
        self._families = families
        self.speakers = speakers
        n_frames = np.minimum.reduce([families[name].lengths for name in view.sets])
        self._first, part = view.locate_part(
            n_frames, self._loudness.find_sounding_part(view.trim_db) if view.trim_db else None
        )
        self._n_kept = np.minimum(part, view.max_frames)
        self._n_cropped = part - self._n_kept
        self._pooled = np.full((len(n_frames), view.n_features if view.is_pooled else 0), np.nan, dtype=np.float32)
        self.lengths = np.ones_like(n_frames) if view.is_pooled else np.maximum(self._n_kept, view.min_frames)

    def locate_used_part(self, clip: int) -> tuple[float, float]:
        """Return the start and end of a clip's frames that are used without an epoch, in s; inf where it is one row."""
        cropped = self._n_cropped[clip, None]
        first = int(self._first[clip] + self.view.choose_crop_offsets(cropped, np.array([clip]), 0, None)[0])
        if math.isinf(self.view.frame_s):
            return 0.0, math.inf
        return first * self.view.frame_s, (first + int(self._n_kept[clip])) * self.view.frame_s

    def fit_normaliser(self, clips: Rows) -> Normaliser:
        """Return the normaliser fitted on whole clips `(n_clips,)`; only pooling reads their features."""
        return Normaliser.concatenate(
            Normaliser.from_sums(counts.sum(), sums.sum(axis=0)) for counts, sums in self._compute_sums(clips)
        )

    def batch(
        self, clips: Rows, normaliser: Normaliser, *, seed: int = 0, epoch: int | None = None
    ) -> tuple[Columns, Rows]:
        """Return scaled features `(n_clips, n_frames, n_features)`, 0 past a clip's end, and lengths `(n_clips,)`.

        Args:
            clips: numbers of the clips.
            normaliser: that of the training clips; unused by per-utterance and per-speaker normalisation.
            seed, epoch: of training; a random crop differs between epochs, and is centred without an epoch.
        """
        scaling = self._choose_normaliser(clips, normaliser)
        if self.view.is_pooled:
            return scaling(self._pool(clips))[:, None], self.lengths[clips]
        kept, lengths = self._n_kept[clips], self.lengths[clips]
        features = np.empty((len(clips), int(lengths.max()), self.view.n_features), dtype=np.float32)
        self._copy_frames(
            clips,
            self._first[clips] + self.view.choose_crop_offsets(self._n_cropped[clips], clips, seed, epoch),
            features,
        )
        mean: Columns = scaling.mean
        if self._gains is not None:
            mean = (mean - self._gains[clips, None] * self.view.gain_weights).astype(np.float32, copy=False)
        # torch is faster than NumPy where one operand has fewer dimensions.
        torch.from_numpy(features).sub_(_broadcast_statistics(mean)).mul_(
            _broadcast_statistics(np.reciprocal(scaling.std))
        )
        for row in np.flatnonzero(kept < features.shape[1]):
            features[row, kept[row] :] = 0
            if kept[row] < lengths[row] and self.view.pad != "zeros":
                features[row, : lengths[row]] = features[row, _pad_indices(kept[row], lengths[row], self.view.pad)]
        return features, lengths

    def _copy_frames(self, clips: Rows, first: Rows, features: Columns) -> None:
        """Copy the kept frames of `clips` from frame `first` on into `features`; leave the rest unchanged."""
        places = list(zip(clips.tolist(), first.tolist(), self._n_kept[clips].tolist(), strict=True))
        column = 0
        for name in self.view.sets:
            family, width = self._families[name], self.view.count_columns(name)
            columns = features[:, :, column : column + width]
            column += width
            dtype = family.read_clip(places[0][0]).dtype
            target = columns if dtype == np.float32 else np.zeros(columns.shape, dtype=dtype)
            for row, (clip, start, kept) in enumerate(places):
                target[row, :kept] = family.read_clip(clip)[start : start + kept, :width]
            if dtype != np.float32:
                # Half precision: torch converts faster than NumPy.
                torch.from_numpy(columns).copy_(torch.from_numpy(target))

    @cached_property
    def _loudness(self) -> FrameLevels:
        family = self._families[RMS_FAMILY]
        return FrameLevels.from_rms([family.read_clip(number) for number in range(len(family.lengths))])

    @cached_property
    def _gains(self) -> Columns | None:
        """The gain of each clip in natural-log amplitude, `(n_clips,)`; None without `level_dbfs`."""
        level = self.view.level_dbfs
        return LN_PER_DB * level - self._loudness.compute_clip_levels() if level else None

    def _choose_normaliser(self, clips: Rows, normaliser: Normaliser) -> Normaliser:
        if self.view.normalise == UTTERANCE_NORMALISATION:
            return Normaliser.concatenate(
                Normaliser.from_sums(counts, sums) for counts, sums in self._compute_sums(clips)
            )
        if self.view.normalise == SPEAKER_NORMALISATION:
            speaker_of, by_speaker = self._speaker_statistics
            return by_speaker.take(speaker_of[clips])
        return Normaliser.identity(self.view.n_features) if self.view.normalise == NO_NORMALISATION else normaliser

    @cached_property
    def _speaker_statistics(self) -> tuple[Rows, Normaliser]:
        """The number of each clip's speaker, and the statistics of all clips of each speaker."""
        if self.speakers is None:
            raise UserError("features.normalise speaker: the speakers are unknown; use global or utterance")
        speaker_of = np.unique(np.asarray(self.speakers), return_inverse=True)[1]
        order = np.argsort(speaker_of, kind="stable")
        starts = np.flatnonzero(np.diff(speaker_of[order], prepend=-1))
        return speaker_of, Normaliser.concatenate(
            Normaliser.from_sums(np.add.reduceat(counts[order], starts), np.add.reduceat(sums[order], starts))
            for counts, sums in self._compute_sums(np.arange(len(speaker_of)))
        )

    def _compute_sums(self, clips: Rows) -> list[Sums]:
        """Return the sums of whole clips, one entry per set; with pooling one entry, where each clip is one row."""
        if self.view.is_pooled:
            pooled = self._pool(clips).astype(np.float64)
            return [(np.ones_like(clips), np.stack([pooled, pooled**2], axis=1))]
        return self._compute_frame_sums(clips)

    def _compute_frame_sums(self, clips: Rows) -> list[Sums]:
        parts, column = [], 0
        for name in self.view.sets:
            family, width = self._families[name], self.view.count_columns(name)
            counts, sums = family.lengths[clips], family.sums[clips, :, :width]
            if self._gains is not None:
                # Adding d to n frames adds n d to the sum, and 2 d sum + n d^2 to the sum of squares.
                added = self._gains[clips, None].astype(np.float64) * self.view.gain_weights[column : column + width]
                grown = counts[:, None] * added
                sums = np.stack([sums[:, 0] + grown, sums[:, 1] + (2 * sums[:, 0] + grown) * added], axis=1)
            parts.append((counts, sums))
            column += width
        return parts

    def _pool(self, clips: Rows) -> Columns:
        """Return the unscaled statistics of clips `(n_clips, n_features)`; each clip is read at most once."""
        unknown = clips[np.isnan(self._pooled[clips, 0])]
        if self.view.pool in POOLS_FROM_SUMS:
            whole = unknown[self._is_whole(unknown)]
            parts = [pool_sums(counts, sums, "mean_std") for counts, sums in self._compute_frame_sums(whole)]
            halves = [np.split(part, 2, axis=1) for part in parts]
            mean_std = [np.concatenate(columns, axis=1) for columns in zip(*halves, strict=True)]
            self._pooled[whole] = np.concatenate(mean_std, axis=1)[:, : self.view.n_features]
            unknown = unknown[~self._is_whole(unknown)]
        first = self._first + self.view.choose_crop_offsets(self._n_cropped, np.arange(len(self._n_cropped)), 0, None)
        for clip in unknown:
            frames = np.empty((1, int(self._n_kept[clip]), self.view.n_columns), dtype=np.float32)
            self._copy_frames(np.array([clip]), first[clip, None], frames)
            if self._gains is not None:
                frames += self._gains[clip] * self.view.gain_weights
            self._pooled[clip] = pool(frames[0], self.view.pool)
        return self._pooled[clips]

    def _is_whole(self, clips: Rows) -> NDArray[np.bool_]:
        """Return for each clip whether the view keeps every frame."""
        kept = self._n_kept[clips]
        is_kept: NDArray[np.bool_] = np.logical_and.reduce(
            [self._families[name].lengths[clips] == kept for name in self.view.sets]
        )
        return is_kept


class StoredViewedClips(ViewedClips):
    """Stored clips through a view, in the order of `hashes`; `dtype` is that of the stored features."""

    def __init__(
        self,
        view: FeatureView,
        hashes: tuple[str, ...],
        speakers: Sequence[str] | None = None,
        dtype: str = "float32",
    ) -> None:
        super().__init__(view, {name: open_family(name, hashes, dtype) for name in view.required_families}, speakers)
        if view.is_pooled:
            # Trials of a process share the unscaled statistics.
            self._pooled = _make_pooled_cache(replace(view, normalise=GLOBAL_NORMALISATION), hashes, dtype)


@lru_cache(maxsize=8)
def _make_pooled_cache(view: FeatureView, hashes: tuple[str, ...], dtype: str) -> Columns:
    """Return the pooled clips of a process, `(n_clips, n_features)`, NaN where they are not computed yet."""
    return np.full((len(hashes), view.n_features), np.nan, dtype=np.float32)


class _ComputedClips:
    """One family of clips, in memory."""

    def __init__(self, clips: list[Columns]) -> None:
        self._clips = clips
        self.lengths = np.array([len(features) for features in clips], dtype=np.int64)

    @cached_property
    def sums(self) -> NDArray[np.float64]:
        return np.stack([compute_sums(features) for features in self._clips])

    def read_clip(self, number: int) -> Columns:
        return self._clips[number]


def _view_audio(view: FeatureView, clips: Sequence[Audio], speakers: Sequence[str] | None = None) -> ViewedClips:
    """Return decoded clips through a view; `speakers` has the speaker of each."""
    computed = [compute_features(audio, view.required_families, FAMILIES) for audio in clips]
    return ViewedClips(
        view, {name: _ComputedClips([each[name] for each in computed]) for name in view.required_families}, speakers
    )


@dataclass(frozen=True)
class ViewedClip:
    """The features `(n_frames, n_features)` of a clip for prediction, and the start and end of the part used, in s."""

    features: Columns
    used_s: tuple[float, float]


def view_clip(view: FeatureView, audio: Audio, normaliser: Normaliser) -> ViewedClip:
    """Return a clip for prediction, processed as in training.

    Raises:
        UserError: the view has per-speaker normalisation, which needs several clips; see `view_speaker_clips`.
    """
    if view.normalise == SPEAKER_NORMALISATION:
        raise UserError(
            "the model was trained with features.normalise speaker, which needs several clips of one speaker: give "
            "them with ser predict --one-speaker, or use another model"
        )
    return _view_alone(_view_audio(view, [audio]), 0, audio, normaliser)


def view_speaker_clips(view: FeatureView, clips: Sequence[Audio], normaliser: Normaliser) -> list[ViewedClip]:
    """Return each of one speaker's clips, scaled by the statistics of all."""
    viewed = _view_audio(view, clips, [""] * len(clips))
    return [_view_alone(viewed, row, audio, normaliser) for row, audio in enumerate(clips)]


def _view_alone(viewed: ViewedClips, row: int, audio: Audio, normaliser: Normaliser) -> ViewedClip:
    start_s, end_s = viewed.locate_used_part(row)
    used_s = (start_s, min(end_s, audio.duration_s))
    return ViewedClip(viewed.batch(np.array([row]), normaliser)[0][0], used_s)


def _broadcast_statistics(statistics: Columns) -> torch.Tensor:
    """Return statistics `(n_features,)` unchanged, and `(n_clips, n_features)` with an axis for frames."""
    return torch.tensor(statistics if statistics.ndim == 1 else statistics[:, None])


def _pad_indices(n_frames: int, length: int, pad: str) -> Rows:
    """Return the indices of a clip's `n_frames` that fill `length` frames, repeated or reflected as by `np.pad`."""
    frame = np.arange(length)
    if pad == "repeat" or n_frames == 1:
        return frame % n_frames
    back = frame % (2 * n_frames - 2)
    return np.minimum(back, 2 * n_frames - 2 - back)
