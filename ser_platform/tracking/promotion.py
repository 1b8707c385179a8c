"""Promotion: a candidate that passes its gates becomes the champion; one command at a time, and none half done.

Aliases have no compare-and-swap. A registered model `ser-lock-NAME`, whose name is unique in the store, is the lock;
what a command is about to do is noted on the model first, so that the next one ends what a kill has cut off. Readers
ask for `champion`, which is one write.
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
from ser_platform.tracking.registry import CHAMPION, PREVIOUS, RegisteredVersion, find_alias, find_model, find_version

LOCK_PREFIX = "ser-lock-"  # before the name of the model that is locked
LEASE_S = 600.0  # seconds after which a lock is taken to be of a process that was killed
INTENT_TAG = "moving"  # the tag that says which aliases are being set
MAX_TAG_CHARS = 5000  # characters of a tag


def promote(
    client: Client,
    candidate: RegisteredVersion,
    champion: RegisteredVersion | None,
    gates: Sequence[Gate],
    reason: str | None = None,
) -> None:
    """Point `champion` at `candidate` and `previous` at the champion so far; write who, when and why to the version.

    Args:
        champion: against which the gates were judged.
        reason: overrules failed gates, for good on record; but not that the bundle cannot be used.

    Raises:
        PromotionRefused: a gate failed and no `reason` was given; lists them all. That too is on record.
        UserError: another promotion runs, or the champion is another by now.
    """
    failed = [gate for gate in gates if gate.passed is False]
    unusable = any(gate.name == BUNDLE_GATE for gate in failed)
    if failed and (reason is None or unusable):
        _record(client, candidate, champion, gates, "refused", None)
        listed = "; ".join(f"{gate.name}: {gate.detail}" for gate in failed)
        raise PromotionRefused(f"{candidate.title} is not promoted. {listed}")
    with alias_lock(client, candidate.name):
        finish_interrupted_move(client, candidate.name)
        now = find_alias(client, candidate.name, CHAMPION)
        if _version(now) != _version(champion):
            raise UserError(
                f"{candidate.title} was judged against {_title(champion)}, and {_title(now)} is the champion by now"
            )
        _move(client, candidate.name, candidate.version, _version(now))
        _record(client, candidate, champion, gates, "promoted", reason if failed else None)


def rollback(client: Client, name: str, reason: str | None = None) -> RegisteredVersion:
    """Make the previous champion the champion again, and the present one the previous; return the new champion.

    Raises:
        UserError: there is no previous champion, or another promotion runs.
    """
    find_model(client, f"{name}@{CHAMPION}")  # an unknown name is told before anything is locked
    with alias_lock(client, name):
        finish_interrupted_move(client, name)
        champion, previous = find_model(client, f"{name}@{CHAMPION}"), find_alias(client, name, PREVIOUS)
        if previous is None:
            raise UserError(f"{name} has no previous champion to go back to")
        _move(client, name, previous.version, champion.version)
        _record(client, previous, champion, (), "rolled back to", reason)
    return previous


@contextlib.contextmanager
def alias_lock(client: Client, name: str) -> Iterator[None]:
    """Be the only one who moves the aliases of a model, on all machines, while the block lasts.

    Raises:
        UserError: somebody else is; names them.
    """
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
    """End what a killed command has begun with the aliases of a model."""
    begun = client.get_registered_model(name).tags.get(INTENT_TAG)
    if not begun:
        return
    try:
        intent = json.loads(begun)
        champion, previous = intent["champion"], intent["previous"]
        for version in filter(None, (champion, previous)):
            find_version(client, name, version)
    except (ValueError, KeyError, TypeError, UserError):  # of versions that were deleted since
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
    """Write a decision to a version, in short, and with every figure as a file to its run."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    decision: dict[str, Any] = {
        "model": model.title,
        "outcome": outcome,
        "against": _title(against),
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
    """Return a time that a tag tells, 0 where it tells none."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def _version(model: RegisteredVersion | None) -> str | None:
    return None if model is None else model.version


def _title(model: RegisteredVersion | None) -> str:
    return "no champion" if model is None else model.title
