"""Checks that the saved rungs of a study follow from its journal."""

from ser_platform.tuning.schedulers.rules import Rungs, ScoreHistories, StoppingRule


def find_disagreements(saved: Rungs, rule: StoppingRule, histories: ScoreHistories) -> list[str]:
    """Return the differences between saved rungs and those of a new `rule` after a study's history, [] if none."""
    rule.replay(histories)
    known = {(epoch, trial): score for epoch, rung in rule.rungs.items() for trial, score in rung.items()}
    found = {(epoch, trial): score for epoch, rung in saved.items() for trial, score in rung.items()}
    return [
        f"epoch {epoch}, trial {trial}: saved {found.get((epoch, trial))}, history {known.get((epoch, trial))}"
        for epoch, trial in sorted(known.keys() | found.keys())
        if known.get((epoch, trial)) != found.get((epoch, trial))
    ]
