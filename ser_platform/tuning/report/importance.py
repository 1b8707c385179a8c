"""Importance of each searched axis for the dev UAR, with a 95 % interval, and the axes without an effect.

Optuna's evaluators (fANOVA, PED-ANOVA) use only complete trials and axes that every trial has. Here random forests are
fitted to bootstrap samples of all scored trials and predict the trials left out. The permutation importance of an axis
is the growth of their squared error when the values of the axis are shuffled among the trials left out; it is reported
as a share of the sum over all axes. With a perfect model it is the axis's share of the total Sobol indices; forests of
few trials underestimate weak axes. A conditional axis is shuffled only among the trials in which it exists, so that
its parent's effect is not attributed to it. The forests also receive a shuffled copy of each axis; an axis has an
effect only if its importance is above that of every copy.

Source: Breiman, "Random Forests" (2001), section 10; Kursa & Rudnicki, "Feature Selection with the Boruta Package"
(2010) for the copies; Saltelli et al., "Global Sensitivity Analysis" (2008) for the index.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ser_platform.evaluation.intervals import draw_counts
from ser_platform.tuning.report.trial_table import NUMERIC, SUBSET, SearchedAxis, TrialTable

MIN_TRIALS = 20  # with fewer, the interval of a strong axis is as wide as [0, 1]
MAX_TRIALS = 600  # a random subset of more: the ranking no longer changes, only the time grows
N_ROUND_GROUPS, ROUNDS_PER_GROUP = 8, 12  # the shuffled copies are drawn anew for each group of rounds
TREES, SHUFFLES = 10, 3
AXES_OF_A_SPLIT = 0.25  # share of the columns tried at a split: with all of them a strong axis would mask weak ones
N_RESAMPLES = 400
# Resampling the trials left out ignores that other trials would have given other forests. With this factor the interval
# of a strong axis contains the true value in at least 18 of 20 synthetic studies (tests/tuning/report).
INTERVAL_WIDENING = 2.2
Columns = NDArray[np.float64]


@dataclass(frozen=True)
class AxisImportance:
    """Importance of an axis: its share of the explained variation of dev UAR, in [0, 1], and its 95 % interval.

    `has_effect`: whether it is above the importance of every shuffled copy.
    """

    axis: SearchedAxis
    share: float
    low: float
    high: float
    has_effect: bool


@dataclass(frozen=True)
class Importance:
    """The axes, most important first, none with too few trials. `chance` is the limit of the shuffled copies."""

    n_trials: int
    min_trials: int
    chance: float
    axes: tuple[AxisImportance, ...]

    @property
    def is_known(self) -> bool:
        """Whether the study has enough trials."""
        return self.n_trials >= self.min_trials


def estimate_importance(table: TrialTable, seed: int = 0) -> Importance:
    """Return the importance of each axis over the scored trials of a study."""
    rng = np.random.default_rng(seed)
    axes = [axis for axis in table.axes if _has_variation(table, axis)]
    n_trials = len(table.scored)
    if n_trials < MIN_TRIALS or not axes or np.ptp(table.final_scores) == 0:
        return Importance(n_trials, MIN_TRIALS, np.nan, ())
    kept = np.sort(rng.permutation(n_trials)[:MAX_TRIALS])
    blocks = [_make_block(table, axis, rng).select(kept) for axis in axes]
    rounds = _Rounds.run(blocks, table.final_scores[kept], rng)
    shares = np.maximum(rounds.compute_shares()[: len(axes)], 0.0)
    parts = shares / max(shares.sum(), 1e-12)
    low, high = rounds.compute_interval(len(axes), parts, rng)
    chance = rounds.compute_chance(len(axes))
    found = [
        AxisImportance(axis, float(parts[n]), float(low[n]), float(high[n]), bool(shares[n] > chance))
        for n, axis in enumerate(axes)
    ]
    return Importance(n_trials, MIN_TRIALS, chance, tuple(sorted(found, key=lambda each: -each.share)))


def _has_variation(table: TrialTable, axis: SearchedAxis) -> bool:
    return len({str(value) for value in table.list_values(axis) if value is not None}) > 1


def _make_block(table: TrialTable, axis: SearchedAxis, rng: np.random.Generator) -> "_Block":
    """Return an axis as columns: numbers scaled to [0, 1], choices and members as 0 or 1.

    A trial in which the axis does not exist gets the value of a random other trial: a value of its own would reveal
    the value of the parent axis.
    """
    values = table.list_values(axis)
    present = [value for value in values if value is not None]
    filled = [present[rng.integers(len(present))] if value is None else value for value in values]
    if axis.kind == NUMERIC:
        columns = [[axis.scale(value)] for value in filled]
    elif axis.kind == SUBSET:
        columns = [[float(member in value) for member in axis.values] for value in filled]
    else:
        columns = [[float(value == choice) for choice in axis.values] for value in filled]
    return _Block(np.array(columns), np.array([value is not None for value in values]))


@dataclass(frozen=True)
class _Block:
    """The columns `(n_trials, n_columns)` of an axis, and whether the axis exists in each trial `(n_trials,)`."""

    columns: Columns
    exists: NDArray[np.bool_]

    def shuffle(self, rng: np.random.Generator) -> "_Block":
        """Return the block with the rows in which the axis exists in a random order."""
        columns, places = self.columns.copy(), np.flatnonzero(self.exists)
        columns[places] = self.columns[rng.permutation(places)]
        return _Block(columns, self.exists)

    def select(self, trials: NDArray[np.int64]) -> "_Block":
        """Return the rows of some trials."""
        return _Block(self.columns[trials], self.exists[trials])


@dataclass(frozen=True)
class _Rounds:
    """Predictions of the forests for the trials that they were not fitted to.

    Attributes:
        scores: (n_trials,).
        is_out: (n_rounds, n_trials), whether a trial was left out of the fit.
        predicted: (n_rounds, n_trials), zero for trials of the fit.
        shuffled: (n_rounds, n_trials, n_blocks, n_shuffles), predictions with the rows of one block shuffled.
    """

    scores: Columns
    is_out: NDArray[np.bool_]
    predicted: Columns
    shuffled: Columns

    @classmethod
    def run(cls, blocks: Sequence[_Block], scores: Columns, rng: np.random.Generator) -> "_Rounds":
        """Fit one forest a round, to the blocks and to a shuffled copy of each, drawn once for each group of rounds."""
        n_rounds, n_trials = N_ROUND_GROUPS * ROUNDS_PER_GROUP, len(scores)
        is_out = np.zeros((n_rounds, n_trials), dtype=bool)
        predicted = np.zeros((n_rounds, n_trials))
        shuffled = np.zeros((n_rounds, n_trials, 2 * len(blocks), SHUFFLES))
        for number in range(n_rounds):
            if number % ROUNDS_PER_GROUP == 0:
                both = [*blocks, *(block.shuffle(rng) for block in blocks)]
            drawn = rng.integers(n_trials, size=n_trials)
            out = np.setdiff1d(np.arange(n_trials), drawn)
            is_out[number, out] = True
            predicted[number, out], shuffled[number, out] = _predict_left_out(both, scores, drawn, out, rng)
        return cls(scores, is_out, predicted, shuffled)

    def compute_parts(self, trials: Columns, rounds: Columns) -> Columns:
        """Return each block's share of the explained variation, `(n_blocks,)`; they sum to 1."""
        shares = np.maximum(self.compute_shares(trials, rounds), 0.0)
        normalised: Columns = shares / max(shares.sum(), 1e-12)
        return normalised

    def compute_shares(self, trials: Columns | None = None, rounds: Columns | None = None) -> Columns:
        """Return the total Sobol index of each block, `(n_blocks,)`, under weights of trials and rounds."""
        trials = np.ones(self.is_out.shape[1]) if trials is None else trials
        rounds = np.ones(len(self.is_out)) if rounds is None else rounds
        weights = self.is_out * trials * rounds[:, None]
        centre = np.average(self.scores, weights=trials)
        variance = np.average((self.scores - centre) ** 2, weights=trials)
        grown = np.einsum("bi,bij->j", weights, self._error_growth) / max(weights.sum(), 1.0)
        share: Columns = 0.5 * grown / max(variance, 1e-12)
        return share

    @cached_property
    def _error_growth(self) -> Columns:
        """Growth of the squared error when a block is shuffled, `(n_rounds, n_trials, n_blocks)`.

        Forests of few trials predict values too near the mean: deviations from it are scaled by least squares first.
        """
        centre = self.scores.mean()
        errors = np.broadcast_to(self.scores - centre, self.is_out.shape)
        centred = self.predicted - centre
        spread = (centred[self.is_out] ** 2).sum()
        stretch = max(1.0, (centred * errors)[self.is_out].sum() / spread) if spread else 1.0
        before = (errors - stretch * centred) ** 2
        after = ((errors[..., None, None] - stretch * (self.shuffled - centre)) ** 2).mean(axis=-1)
        return np.asarray(after - before[..., None])

    def compute_interval(self, n_axes: int, parts: Columns, rng: np.random.Generator) -> tuple[Columns, Columns]:
        """Return the 95 % interval (low, high) of the parts of the axes, from resampled trials and rounds."""
        part = replace(self, shuffled=self.shuffled[:, :, :n_axes])
        drawn = []
        for _ in range(N_RESAMPLES):
            trials, rounds = (draw_counts(rng, n, 1)[0].astype(float) for n in self.is_out.shape[::-1])
            drawn.append(part.compute_parts(trials, rounds))
        low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
        return np.clip(parts - INTERVAL_WIDENING * (parts - low), 0, 1), np.clip(
            parts + INTERVAL_WIDENING * (high - parts), 0, 1
        )

    def compute_chance(self, n_axes: int) -> float:
        """Return the limit of the shuffled copies: an axis with a larger share has an effect."""
        group_of_round = np.arange(len(self.is_out)) // ROUNDS_PER_GROUP
        copies = np.array(
            [
                self.compute_shares(rounds=(group_of_round == group).astype(float))[n_axes:]
                for group in range(N_ROUND_GROUPS)
            ]
        )
        return float(max(copies.max(), copies.mean() + 3 * copies.std()))


def _predict_left_out(
    blocks: Sequence[_Block],
    scores: Columns,
    drawn: NDArray[np.int64],
    out: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[Columns, Columns]:
    """Fit a forest to the trials drawn; return its predictions for the others, unshuffled and with each block shuffled.

    The shapes are (n_out,) and (n_out, n_blocks, SHUFFLES).
    """
    from sklearn.ensemble import ExtraTreesRegressor  # its import takes half a second

    forest = ExtraTreesRegressor(TREES, max_features=AXES_OF_A_SPLIT, random_state=int(rng.integers(2**31)))
    forest.fit(np.concatenate([block.columns[drawn] for block in blocks], axis=1), scores[drawn])
    left = [block.select(out) for block in blocks]
    inputs = [np.concatenate([block.columns for block in left], axis=1)]
    end = 0
    for block in left:
        start, end = end, end + block.columns.shape[1]
        for _ in range(SHUFFLES):
            inputs.append(inputs[0].copy())
            inputs[-1][:, start:end] = block.shuffle(rng).columns
    predictions = forest.predict(np.concatenate(inputs)).reshape(len(inputs), len(out))
    return predictions[0], predictions[1:].reshape(len(blocks), SHUFFLES, len(out)).transpose(2, 0, 1)
