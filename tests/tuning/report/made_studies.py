"""Synthetic studies with known effects."""

from typing import Any

import numpy as np

from ser_platform.tuning.report.trial_table import CATEGORICAL, NUMERIC, SUBSET, SearchedAxis, Trial, TrialTable
from ser_platform.tuning.study.trial_outcome import Outcome

AXES = (
    SearchedAxis("data.max_seconds", NUMERIC, (1.0, 5.0)),
    SearchedAxis("model.hidden_size", CATEGORICAL, (16, 32, 64)),
    SearchedAxis("optimizer.lr", NUMERIC, (1e-4, 1e-2), is_log=True),
    SearchedAxis("model.norm", CATEGORICAL, ("batch", "layer")),
    SearchedAxis("features.sets", SUBSET, ("log_mel", "mfcc", "zcr")),
    SearchedAxis("distill.alpha", CATEGORICAL, (0.0, 0.5)),
    SearchedAxis("distill.temperature", NUMERIC, (1.0, 8.0), is_log=True),
)
NULLS = {"optimizer.lr", "model.norm", "features.sets"}
STRONG, WEAK, CHILD = "data.max_seconds", "model.hidden_size", "distill.temperature"
GRID = np.arange(1.0, 5.5, 0.5)


def made_study(n_trials: int, seed: int, pruned: float = 0.0) -> TrialTable:
    """Return a study with a strong, a weak and three inert axes, and one that exists only with alpha 0.5."""
    rng = np.random.default_rng(seed)
    trials = []
    for number in range(n_trials):
        params: dict[str, Any] = {
            "data.max_seconds": float(rng.choice(GRID)),
            "model.hidden_size": int(rng.choice([16, 32, 64])),
            "optimizer.lr": float(1e-4 * 100 ** rng.random()),
            "model.norm": str(rng.choice(["batch", "layer"])),
            "features.sets": [name for name in ("log_mel", "mfcc", "zcr") if rng.random() < 0.5] or ["log_mel"],
            "distill.alpha": float(rng.choice([0.0, 0.5])),
        }
        score = 0.6 + strong(params["data.max_seconds"]) + 0.03 * (params["model.hidden_size"] == 64)
        if params["distill.alpha"]:
            params["distill.temperature"] = float(8 ** rng.random())
            score += 0.06 * np.log(params["distill.temperature"]) / np.log(8)
        score = float(score + 0.02 * rng.standard_normal())
        is_pruned = rng.random() < pruned
        curve = {epoch: score - 0.1 * (10 - epoch) / 9 for epoch in range(1, 4 if is_pruned else 11)}
        size = params["model.hidden_size"] * 500.0
        state = Outcome.PRUNED if is_pruned else Outcome.COMPLETE
        metrics = {"parameters": size, "train_seconds": 2.0 * len(curve), "epochs": len(curve)}
        trials.append(Trial(number, state, params, max(curve.values()), curve, metrics))
    return TrialTable(AXES, tuple(trials))


def strong(seconds: float) -> float:
    """Return the effect of the duration limit: 0 from 4 s on, -0.15 at 1 s."""
    effect: float = -0.15 * max(0.0, (4.0 - seconds) / 3) ** 1.5
    return effect


def share_of_strong() -> float:
    """The strong axis's part of the total Sobol indices of all axes."""
    on = 0.25 * 0.06**2 * (1 / 3)  # alpha: half the trials have it, and what it gives depends on the temperature
    strongest = float(np.var([strong(s) for s in GRID]))
    parts = {"strong": strongest, "weak": 0.03**2 * 2 / 9, "alpha": on, "T": 0.5 * 0.06**2 / 12}
    return parts["strong"] / sum(parts.values())
