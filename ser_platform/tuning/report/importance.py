"""How much each searched axis matters to dev UAR, with its uncertainty, and which axes had no effect.

Optuna's evaluators (fANOVA, PED-ANOVA) read only axes that every trial has, and complete trials. Here forests are
fitted to bootstrap samples of all scored trials and predict the trials left out. An axis matters by how much worse
they predict once it is shuffled among the trials left out; its importance is its part of what all axes matter. With a
perfect model that is its part of the total Sobol indices; forests of few trials pass over weak axes. Shuffling stays
among the trials in which a conditional axis exists, so that it takes no credit for its parent. Shuffled copies of the
axes stand in the same forests; an axis has an effect only where it matters more than every copy does.

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

MIN_TRIALS = 20  # of fewer, the interval of a strong axis is as wide as [0, 1]
MAX_TRIALS = 600  # drawn at random from more: the ranking is settled, and the time goes on growing
N_ROUND_GROUPS, ROUNDS_PER_GROUP = 8, 12  # each group of rounds has copies of its own
TREES, SHUFFLES = 10, 3
AXES_OF_A_SPLIT = 0.25  # of the columns: among all of them a strong axis would hide the weak
N_RESAMPLES = 400
# Drawing the trials left out again does not see that other trials would have made other forests. So much wider, the
# interval of a strong axis holds the truth in at least 18 of 20 made studies; see the tests.
INTERVAL_WIDENING = 2.2
Columns = NDArray[np.float64]


@dataclass(frozen=True)
class AxisImportance:
    """An axis's part of what is explained of dev UAR, in [0, 1], its 95 % interval, and whether it is above chance."""

    axis: SearchedAxis
    share: float
    low: float
    high: float
    has_effect: bool


@dataclass(frozen=True)
class Importance:
    """The axes, most important first, none where there are too few trials; `chance` is what a shuffled copy reaches."""

    n_trials: int
    min_trials: int
    chance: float
    axes: tuple[AxisImportance, ...]

    @property
    def is_known(self) -> bool:
        """Tell whether there were trials enough."""
        return self.n_trials >= self.min_trials


def estimate_importance(table: TrialTable, seed: int = 0) -> Importance:
    """Return how much each axis matters over the scored trials of a study."""
    rng = np.random.default_rng(seed)
    axes = [axis for axis in table.axes if _has_variation(table, axis)]
    n_trials = len(table.scored)
    if n_trials < MIN_TRIALS or not axes or np.ptp(table.final_scores) == 0:
        return Importance(n_trials, MIN_TRIALS, np.nan, ())
    kept = np.sort(rng.permutation(n_trials)[:MAX_TRIALS])
    blocks = [
        _Block(
            _encode_axis(table, axis, rng)[kept], np.array([value is not None for value in table.values(axis)])[kept]
        )
        for axis in axes
    ]
    rounds = _Rounds.run(blocks, table.final_scores[kept], rng)
    shares = np.maximum(rounds.shares()[: len(axes)], 0.0)
    parts = shares / max(shares.sum(), 1e-12)
    low, high = rounds.interval(len(axes), parts, rng)
    chance = rounds.chance(len(axes))
    found = [
        AxisImportance(axis, float(parts[n]), float(low[n]), float(high[n]), bool(shares[n] > chance))
        for n, axis in enumerate(axes)
    ]
    return Importance(n_trials, MIN_TRIALS, chance, tuple(sorted(found, key=lambda each: -each.share)))


def _has_variation(table: TrialTable, axis: SearchedAxis) -> bool:
    return len({str(value) for value in table.values(axis) if value is not None}) > 1


def _encode_axis(table: TrialTable, axis: SearchedAxis, rng: np.random.Generator) -> Columns:
    """Return an axis as columns `(n_trials, n_columns)`: numbers scaled, choices and members on or off.

    Where the axis does not exist a value of another trial stands: a mark of its own would tell the parent's value.
    """
    values = table.values(axis)
    present = [value for value in values if value is not None]
    filled = [present[rng.integers(len(present))] if value is None else value for value in values]
    if axis.kind == NUMERIC:
        return np.array([[axis.scale(value)] for value in filled])
    if axis.kind == SUBSET:
        return np.array([[float(member in value) for member in axis.values] for value in filled])
    return np.array([[float(value == choice) for choice in axis.values] for value in filled])


@dataclass(frozen=True)
class _Block:
    """The columns `(n_trials, n_columns)` of an axis, and in which trials it exists."""

    columns: Columns
    exists: NDArray[np.bool_]

    def shuffle(self, rng: np.random.Generator) -> "_Block":
        """Return the block with the rows in which the axis exists in another order."""
        columns, places = self.columns.copy(), np.flatnonzero(self.exists)
        columns[places] = self.columns[rng.permutation(places)]
        return _Block(columns, self.exists)

    def of(self, trials: NDArray[np.int64]) -> "_Block":
        """Return the block of some trials."""
        return _Block(self.columns[trials], self.exists[trials])


@dataclass(frozen=True)
class _Rounds:
    """What forests predicted of the trials they had not seen.

    Attributes:
        scores: (n_trials,).
        is_out: (n_rounds, n_trials), which trials were left out.
        predicted: (n_rounds, n_trials), zero where a trial was fitted.
        shuffled: (n_rounds, n_trials, n_blocks, n_shuffles), the same with one block's rows in another order.
    """

    scores: Columns
    is_out: NDArray[np.bool_]
    predicted: Columns
    shuffled: Columns

    @classmethod
    def run(cls, blocks: Sequence[_Block], scores: Columns, rng: np.random.Generator) -> "_Rounds":
        """Fit the forests, to the blocks and to one copy of each that holds for the rounds of a group."""
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

    def parts(self, trials: Columns, rounds: Columns) -> Columns:
        """Return the shares as parts of what is explained, `(n_blocks,)`."""
        shares = np.maximum(self.shares(trials, rounds), 0.0)
        normalised: Columns = shares / max(shares.sum(), 1e-12)
        return normalised

    def shares(self, trials: Columns | None = None, rounds: Columns | None = None) -> Columns:
        """Return the share of each block under weights of trials and rounds, `(n_blocks,)`."""
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
        """By how much the squared error grows, `(n_rounds, n_trials, n_blocks)`.

        Forests of few trials predict too near the mean: their predictions are stretched as the trials left out ask.
        """
        centre = self.scores.mean()
        errors = np.broadcast_to(self.scores - centre, self.is_out.shape)
        centred = self.predicted - centre
        spread = (centred[self.is_out] ** 2).sum()
        stretch = max(1.0, (centred * errors)[self.is_out].sum() / spread) if spread else 1.0
        before = (errors - stretch * centred) ** 2
        after = ((errors[..., None, None] - stretch * (self.shuffled - centre)) ** 2).mean(axis=-1)
        return np.asarray(after - before[..., None])

    def interval(self, n_axes: int, parts: Columns, rng: np.random.Generator) -> tuple[Columns, Columns]:
        """Return the 95 % interval of the parts of the axes, from drawing trials and rounds again."""
        part = replace(self, shuffled=self.shuffled[:, :, :n_axes])
        drawn = []
        for _ in range(N_RESAMPLES):
            trials, rounds = (draw_counts(rng, n, 1)[0].astype(float) for n in self.is_out.shape[::-1])
            drawn.append(part.parts(trials, rounds))
        low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
        return np.clip(parts - INTERVAL_WIDENING * (parts - low), 0, 1), np.clip(
            parts + INTERVAL_WIDENING * (high - parts), 0, 1
        )

    def chance(self, n_axes: int) -> float:
        """Return what a copy reaches at most: a share that is above it is more than chance."""
        copies = np.array(
            [
                self.shares(rounds=(np.arange(len(self.is_out)) // ROUNDS_PER_GROUP == group).astype(float))[n_axes:]
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
    """Fit a forest to the trials drawn; return what it predicts of the others, whole and with each block shuffled."""
    from sklearn.ensemble import ExtraTreesRegressor  # half a second that no other verb should pay

    forest = ExtraTreesRegressor(TREES, max_features=AXES_OF_A_SPLIT, random_state=int(rng.integers(2**31)))
    forest.fit(np.concatenate([block.columns[drawn] for block in blocks], axis=1), scores[drawn])
    left = [block.of(out) for block in blocks]
    inputs = [np.concatenate([block.columns for block in left], axis=1)]
    end = 0
    for block in left:
        start, end = end, end + block.columns.shape[1]
        for _ in range(SHUFFLES):
            inputs.append(inputs[0].copy())
            inputs[-1][:, start:end] = block.shuffle(rng).columns
    predictions = forest.predict(np.concatenate(inputs)).reshape(len(inputs), len(out))
    return predictions[0], predictions[1:].reshape(len(blocks), SHUFFLES, len(out)).transpose(2, 0, 1)
