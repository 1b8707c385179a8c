"""Promotion and rollback: move the aliases `champion` and `previous` of a registered model, one command at a time.

MLflow has no compare-and-swap for aliases. The lock is a registered model `ser-lock-NAME`: names are unique in a store.
The new aliases are written to a tag of the model first, so that the next command completes a move that a kill
interrupted.
"""

import contextlib
import getpass
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ser_platform.errors import PromotionRefused, UserError
from ser_platform.evaluation.promotion_gates import BUNDLE_GATE, Gate
from ser_platform.tracking.mlflow_store import Client
from ser_platform.tracking.registry import (
    CHAMPION,
    LOCK_PREFIX,
    PREVIOUS,
    RegisteredVersion,
    find_alias,
    find_model,
    find_version,
)

LEASE_S = 600.0  # seconds; an older lock is from a process that was killed
INTENT_TAG = "moving"  # its value is the aliases that are being set, as JSON
MAX_TAG_CHARS = 5000


def promote(
    client: Client,
    candidate: RegisteredVersion,
    champion: RegisteredVersion | None,
    gates: Sequence[Gate],
    reason: str | None = None,
) -> None:
    """Point `champion` at `candidate` and `previous` at the present champion; record user, time and reason.

    Args:
        champion: the version that the gates compared the candidate with.
        reason: promotes in spite of failed gates, except the bundle gate; it is recorded on the version.

    Raises:
        PromotionRefused: a gate failed and there is no `reason`; the message lists all failed gates. The refusal is
            recorded too.
        UserError: another promotion is running, or the champion has changed since the gates were evaluated.
    """
    failed = [gate for gate in gates if gate.passed is False]
    unusable = any(gate.name == BUNDLE_GATE for gate in failed)
    if failed and (reason is None or unusable):
        _record(client, candidate, champion, gates, "refused", None)
        listed = "; ".join(f"{gate.name}: {gate.detail}" for gate in failed)
        raise PromotionRefused(f"{candidate.title} is not promoted. {listed}")
    with lock_aliases(client, candidate.name):
        finish_interrupted_move(client, candidate.name)
        now = find_alias(client, candidate.name, CHAMPION)
        previous = None if now is None else now.version
        if previous != (champion and champion.version):
            raise UserError(
                f"{candidate.title} was compared with {_describe(champion)}, but the champion is now {_describe(now)}; "
                "promote again"
            )
        _move(client, candidate.name, candidate.version, previous)
        _record(client, candidate, champion, gates, "promoted", reason if failed else None)


def rollback(client: Client, name: str, reason: str | None = None) -> RegisteredVersion:
    """Swap the aliases `champion` and `previous`; return the new champion. Raises UserError without a `previous`."""
    find_model(client, f"{name}@{CHAMPION}")  # an unknown name is refused before the lock is taken
    with lock_aliases(client, name):
        finish_interrupted_move(client, name)
        champion, previous = find_model(client, f"{name}@{CHAMPION}"), find_alias(client, name, PREVIOUS)
        if previous is None:
            raise UserError(f"{name} has no previous champion to go back to")
        _move(client, name, previous.version, champion.version)
        _record(client, previous, champion, (), "rolled back to", reason)
    return previous


@contextlib.contextmanager
def lock_aliases(client: Client, name: str) -> Iterator[None]:
    """Lock the aliases of a model in the store. Raises UserError where another process has the lock."""
    lock, me = f"{LOCK_PREFIX}{name}", uuid.uuid4().hex
    tags = {"by": getpass.getuser(), "until": f"{time.time() + LEASE_S:.0f}"}
    while not client.claim(lock, me, tags):
        holder = client.get_registered_model(lock).tags
        if _parse_seconds(holder.get("until", "")) > time.time():
            raise UserError(f"{name} is being promoted or rolled back by {holder.get('by')}; try again in a moment")
        client.delete_registered_model(lock)  # left by a process that was killed
    try:
        yield
    finally:
        client.delete_registered_model(lock)


def finish_interrupted_move(client: Client, name: str) -> None:
    """Complete the move of aliases that a killed command began."""
    begun = client.get_registered_model(name).tags.get(INTENT_TAG)
    if not begun:
        return
    try:
        intent = json.loads(begun)
        champion, previous = intent["champion"], intent["previous"]
        for version in filter(None, (champion, previous)):
            find_version(client, name, version)
    except (ValueError, KeyError, TypeError, UserError):  # unreadable, or a version was deleted since
        client.delete_registered_model_tag(name, INTENT_TAG)
    else:
        _set_aliases(client, name, champion, previous)


def _move(client: Client, name: str, champion: str, previous: str | None) -> None:
    intent = {"champion": champion, "previous": previous}
    client.set_registered_model_tag(name, INTENT_TAG, json.dumps(intent))
    _set_aliases(client, name, champion, previous)


def _set_aliases(client: Client, name: str, champion: str, previous: str | None) -> None:
    if previous is not None and previous != champion:
        client.set_registered_model_alias(name, PREVIOUS, previous)
    client.set_registered_model_alias(name, CHAMPION, champion)
    client.delete_registered_model_tag(name, INTENT_TAG)


def _record(
    client: Client,
    model: RegisteredVersion,
    against: RegisteredVersion | None,
    gates: Sequence[Gate],
    outcome: str,
    reason: str | None,
) -> None:
    """Record a decision: a summary as a tag of the version, all figures as a file of its run."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    decision: dict[str, Any] = {
        "model": model.title,
        "outcome": outcome,
        "against": _describe(against),
        "by": getpass.getuser(),
        "at": now,
        "reason": reason,
        "gates": [asdict(gate) | {"verdict": gate.verdict} for gate in gates],
    }
    outcomes = "; ".join(f"{gate.name} {gate.verdict} ({gate.detail})" for gate in gates)
    key = {"promoted": "promotion", "refused": "promotion_refused"}.get(outcome, "rollback")
    short = f"{outcome} {now} by {decision['by']} against {decision['against']}"
    short += f", in spite of failed gates: {reason}" if reason and gates else f": {reason}" if reason else ""
    client.set_model_version_tag(model.name, model.version, key, f"{short}. {outcomes}".strip()[:MAX_TAG_CHARS])
    place = f"promotion/{model.name}-v{model.version}-{now.replace(':', '')}.json"
    client.log_dict(model.run_id, decision, place)


def _parse_seconds(text: str) -> float:
    """Return the time in a tag, in seconds since 1970; 0 where it is no number."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def _describe(model: RegisteredVersion | None) -> str:
    return "no champion" if model is None else model.title
