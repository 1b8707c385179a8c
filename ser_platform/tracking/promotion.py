"""Promotion: a candidate becomes the champion when it passes every gate. The test may only veto."""

import csv
import getpass
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from ser_platform.corpora.audio import SAMPLE_RATE, Audio
from ser_platform.corpora.splits import EVERY_LEAK
from ser_platform.errors import PromotionRefused, SerError, UserError
from ser_platform.evaluation.intervals import MIN_SPEAKERS, Interval, paired_interval
from ser_platform.evaluation.ledger import reads
from ser_platform.inference.predictor import Predictor
from ser_platform.tracking.registry import CHAMPION, PREVIOUS, RegisteredModel, find_alias, find_model, load
from ser_platform.tracking.store import Client

MARGIN = 0.05  # UAR; a loss beyond it must be excluded by the interval
LEVEL = 0.05  # error of the gate, divided by the looks at the test clips
PREDICTIONS = "test/predictions.csv"  # in the artefacts of a study's run


@dataclass(frozen=True)
class Gate:
    """One condition and how it came out."""

    name: str
    passed: bool
    detail: str


def interval_gate(candidate: str, gain: Interval, margin: float) -> Gate:
    """Judge the candidate's paired gain over the champion, in UAR on the same clips."""
    detail = f"gain {gain.value:+.3f}, interval {gain.low:+.3f} to {gain.high:+.3f}"
    if gain.caveat:
        detail += f" ({gain.caveat})"
    if gain.low < -margin:
        return Gate(
            "UAR",
            False,
            f"{candidate} may be {-gain.low:.3f} worse than the champion ({detail}); at most {margin:.3f} is allowed",
        )
    return Gate(
        "UAR",
        True,
        detail + (f"; weak evidence ({gain.n_speakers} speakers)" if gain.n_speakers < MIN_SPEAKERS else ""),
    )


def split_gate(protocol: str) -> Gate:
    """Judge how the candidate was tested, by the stamp that its protocol carries."""
    leaks = ", ".join(sorted(leak for leak in EVERY_LEAK if leak in protocol))
    return Gate("split", not leaks, f"{leaks}: its figures say nothing of new people" if leaks else protocol)


def judge(
    client: Client, candidate: RegisteredModel, champion: RegisteredModel | None, margin: float = MARGIN
) -> list[Gate]:
    """Return every gate's outcome."""
    gates = [_digest_gate(client, candidate), split_gate(candidate.tags.get("protocol", ""))]
    if champion is None:
        gates.append(Gate("UAR", True, "first champion: nothing to compare with"))
        return gates
    same = candidate.tags.get("protocol") == champion.tags.get("protocol")
    gates.append(Gate("protocol", same, f"{candidate.tags.get('protocol')}, champion {champion.tags.get('protocol')}"))
    fingerprint = candidate.tags.get("test_fingerprint", "")
    if fingerprint != champion.tags.get("test_fingerprint"):
        ours, theirs = candidate.tags.get("corpus"), champion.tags.get("corpus")
        gates.append(Gate("UAR", False, f"tested on other clips ({ours}) than the champion ({theirs}): not comparable"))
        return gates
    gates.append(interval_gate(candidate.title, _gain(client, candidate, champion, max(1, reads(fingerprint))), margin))
    return gates


def _digest_gate(client: Client, model: RegisteredModel) -> Gate:
    try:
        bundle = load(client, model)
        tone = Audio(np.sin(np.arange(SAMPLE_RATE) * 0.1).astype(np.float32), SAMPLE_RATE)
        if not np.isfinite(Predictor(bundle).probabilities(tone)).all():
            return Gate("bundle", False, "predicts what is not finite")
    except SerError as error:
        return Gate("bundle", False, str(error))
    return Gate("bundle", True, "digests verify, loads, predicts")


def _gain(client: Client, candidate: RegisteredModel, champion: RegisteredModel, looks: int) -> Interval:
    ours, theirs = _predictions(client, candidate), _predictions(client, champion)
    clips = sorted(ours)
    if clips != sorted(theirs):
        raise UserError(f"{candidate.title} and {champion.title} list different test clips")
    emotions = sorted(
        {row["emotion"] for row in ours.values()} | {r["predicted"] for m in (ours, theirs) for r in m.values()}
    )
    index = {emotion: number for number, emotion in enumerate(emotions)}
    truth = np.array([index[ours[clip]["emotion"]] for clip in clips])
    new = np.array([index[ours[clip]["predicted"]] for clip in clips])
    old = np.array([index[theirs[clip]["predicted"]] for clip in clips])
    speakers = np.array([ours[clip]["speaker"] for clip in clips])
    return paired_interval(truth, old, new, speakers, level=1 - LEVEL / looks)


def _predictions(client: Client, model: RegisteredModel) -> dict[str, dict[str, str]]:
    """Return the rows of a version's test predictions by audio digest."""
    try:
        root = client.get_run(model.run_id).info.artifact_uri
        path = Path(download_artifacts(artifact_uri=f"{root}/{model.tags.get('predictions', PREDICTIONS)}"))
    except (MlflowException, OSError) as error:
        raise UserError(f"{model.title} has lost its test predictions, without which it cannot be compared") from error
    with path.open(encoding="utf-8", newline="") as file:
        return {row["audio_sha256"]: row for row in csv.DictReader(file)}


def promote(client: Client, candidate: RegisteredModel, gates: Sequence[Gate], reason: str | None = None) -> None:
    """Point `champion` at `candidate` and `previous` at the champion so far; write who, when and why to the version.

    `reason` overrules failed gates, for good on record.

    Raises:
        PromotionRefused: a gate failed and no `reason` was given; lists them all.
    """
    failed = [gate for gate in gates if not gate.passed]
    if failed and reason is None:
        listed = "; ".join(f"{gate.name}: {gate.detail}" for gate in failed)
        raise PromotionRefused(f"{candidate.title} is not promoted. {listed}")
    champion = find_alias(client, candidate.name, CHAMPION)
    if champion is not None and champion.version != candidate.version:
        client.set_registered_model_alias(candidate.name, PREVIOUS, champion.version)
    client.set_registered_model_alias(candidate.name, CHAMPION, candidate.version)
    note = {
        "promoted_by": getpass.getuser(),
        "promoted_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "promotion_gates": "; ".join(f"{g.name}: {'passed' if g.passed else 'FAILED'} ({g.detail})" for g in gates)[
            :5000
        ],
    }
    if failed and reason is not None:
        note["promotion_forced"] = reason
    for name, value in note.items():
        client.set_model_version_tag(candidate.name, candidate.version, name, value)


def rollback(client: Client, name: str) -> RegisteredModel:
    """Make the previous champion the champion again, and the present one the previous; return the new champion.

    Raises:
        UserError: there is no previous champion.
    """
    champion, previous = find_model(client, f"{name}@{CHAMPION}"), find_alias(client, name, PREVIOUS)
    if previous is None:
        raise UserError(f"{name} has no previous champion to go back to")
    client.set_registered_model_alias(name, CHAMPION, previous.version)
    client.set_registered_model_alias(name, PREVIOUS, champion.version)
    return previous
