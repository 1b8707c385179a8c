"""Gain of each member of a searched set: mean dev UAR of the trials with it minus that of the trials without it.

Other members and settings differ as the sampler drew them: members that it drew together cannot be separated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ser_platform.evaluation.intervals import draw_means
from ser_platform.tuning.report.axis_effects import MIN_TRIALS_PER_VALUE, N_RESAMPLES
from ser_platform.tuning.report.trial_table import SearchedAxis, TrialTable


@dataclass(frozen=True)
class MemberEffect:
    """A member, the number of trials with and without it, its gain in dev UAR, and the gain's 95 % interval."""

    name: str
    n_with: int
    n_without: int
    gain: float
    low: float
    high: float

    @property
    def is_sure(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def estimate_member_effects(table: TrialTable, axis: SearchedAxis, seed: int = 0) -> tuple[MemberEffect, ...]:
    """Return the members that at least three scored trials have and three do not have, largest gain first.

    Intervals are percentiles of a bootstrap over the trials of each side. They are simultaneous: with 95 % probability
    all of them contain the true gain (Bonferroni).
    """
    rng = np.random.default_rng(seed)
    pairs = zip(table.list_values(axis), table.final_scores, strict=True)
    drawn = [(value, score) for value, score in pairs if value is not None]
    sides = {}
    for name in axis.values:
        having = np.array([score for value, score in drawn if name in value])
        lacking = np.array([score for value, score in drawn if name not in value])
        if min(len(having), len(lacking)) >= MIN_TRIALS_PER_VALUE:
            sides[str(name)] = having, lacking
    found = []
    for name, (having, lacking) in sides.items():
        means = [draw_means(rng, side, N_RESAMPLES) for side in (having, lacking)]
        tail = 2.5 / len(sides)
        low, high = np.percentile(means[0] - means[1], (tail, 100 - tail))
        gain = having.mean() - lacking.mean()
        found.append(MemberEffect(name, len(having), len(lacking), float(gain), float(low), float(high)))
    return tuple(sorted(found, key=lambda member: -member.gain))


def summarise_members(axis: SearchedAxis, found: Sequence[MemberEffect]) -> str:
    """Return one line: the members with a certain gain or loss in dev UAR, then those without."""
    if not found:
        return f"{axis.name}: too few trials with and without each member"
    parts = [f"{each.name} {each.gain:+.3f} [{each.low:+.3f}, {each.high:+.3f}]" for each in found if each.is_sure]
    unsure = ", ".join(f"{member.name} {member.gain:+.3f}" for member in found if not member.is_sure)
    parts += [f"interval contains 0: {unsure}"] if unsure else []
    return f"{axis.name}, gain of each member in mean dev UAR: " + "; ".join(parts)
