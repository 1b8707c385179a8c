"""What a proposal of TPE takes late in a long study: `python -m tests.benchmarks.tpe --json`.

A study of 12 axes, in a journal file as studies are, holds the trials that a random sampler drew; a third of them were
stopped early. What is measured is proposing a trial and drawing all of its axes, without training.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from ser_platform.tuning.samplers.bounded_history import BoundedTpeSampler
from ser_platform.tuning.search_space.space import Axis

HISTORIES = (100, 1_000, 10_000)
PROPOSALS = 20
AXES = (
    *(Axis(f"choice_{n}", "choice", ("a", "b", "c", "d"), None, {}) for n in range(4)),
    *(Axis(f"uniform_{n}", "uniform", (0.0, 1.0), None, {}) for n in range(4)),
    *(Axis(f"rate_{n}", "loguniform", (1e-4, 1e-1), None, {}) for n in range(2)),
    *(Axis(f"whole_{n}", "int", (1, 64), None, {}) for n in range(2)),
)


def drawn(rng: np.random.Generator, domain: BaseDistribution) -> Any:
    """Return a value of a domain at random."""
    if isinstance(domain, optuna.distributions.CategoricalDistribution):
        return domain.choices[rng.integers(len(domain.choices))]
    assert isinstance(domain, optuna.distributions.FloatDistribution | optuna.distributions.IntDistribution)
    if isinstance(domain, optuna.distributions.IntDistribution):
        return int(rng.integers(domain.low, domain.high + 1))
    return float(rng.uniform(domain.low, domain.high))


def past(count: int) -> list[FrozenTrial]:
    """Return `count` trials that have ended, a third of them early."""
    rng = np.random.default_rng(0)
    domains = {axis.name: axis.distribution for axis in AXES}
    trials = []
    for number in range(count):
        params = {name: drawn(rng, domain) for name, domain in domains.items()}
        scores = {epoch: float(rng.uniform()) for epoch in (1, 3)}
        stopped = number % 3 == 0
        state = TrialState.PRUNED if stopped else TrialState.COMPLETE
        value = None if stopped else scores[3]
        trials.append(
            create_trial(state=state, value=value, params=params, distributions=domains, intermediate_values=scores)
        )
    return trials


def ask_ms(history: int, sampler: TPESampler) -> float:
    """Return the median milliseconds of a proposal behind `history` trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        journal = str(Path(folder) / "journal.log")
        storage = JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal)))
        study = optuna.create_study(storage=storage, direction="maximize", sampler=sampler)
        study.add_trials(past(history))
        seconds = []
        for _ in range(PROPOSALS):
            began = time.perf_counter()
            trial = study.ask()
            for axis in AXES:
                axis.draw(trial)
            seconds.append(time.perf_counter() - began)
            study.tell(trial, 0.5)
        return 1000 * statistics.median(seconds)


def tpe_ask_ms(history: int) -> float:
    """Return the median milliseconds of a proposal of the platform's TPE behind `history` trials."""
    return ask_ms(history, BoundedTpeSampler(seed=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the JSON line alone")
    quiet = parser.parse_args().json
    rows = {n: (tpe_ask_ms(n), ask_ms(n, TPESampler(seed=0))) for n in HISTORIES}
    if not quiet:
        print(f"{'trials':>8}  {'ours, ms':>9}  {'Optuna, ms':>10}")
        for n, (ours, theirs) in rows.items():
            print(f"{n:>8,}  {ours:>9.1f}  {theirs:>10.1f}")
    longest = rows[HISTORIES[-1]]
    print(json.dumps({"tpe_ask_ms": longest[0], "tpe_ask_ms_uncapped": longest[1], "trials": HISTORIES[-1]}))


if __name__ == "__main__":
    main()
