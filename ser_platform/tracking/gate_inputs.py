"""Facts for the gates: what a candidate and the champion did on the same test clips, how fast and large they are."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from rich.console import Console

from ser_platform.corpora.audio.reader import SAMPLE_RATE, Audio
from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.errors import SerError, UserError
from ser_platform.evaluation.assessment import assess
from ser_platform.evaluation.intervals import Interval, paired_interval
from ser_platform.evaluation.promotion_gates import Facts, Gate, JudgedClips, Policy, judge
from ser_platform.evaluation.test_ledger import reads
from ser_platform.features.dataset import DataRequest
from ser_platform.features.views.normaliser import SPEAKER
from ser_platform.inference.bundle import Bundle
from ser_platform.inference.bundle_latency import latencies_ms
from ser_platform.inference.predictor import Predictor
from ser_platform.progress import Display
from ser_platform.shipped_folders import find_shipped
from ser_platform.tracking.mlflow_store import Client
from ser_platform.tracking.registry import RegisteredModel, bundle_folder, load

LEVEL = 0.05  # error of the UAR gate, divided by the looks at the test clips
PREDICTIONS = "test/predictions.csv"  # in the artefacts of a study's run
NEEDED = {"audio_sha256", "speaker", "emotion", "predicted"}  # columns of these
ROUNDS, TIMED = 4, 10  # rounds, and predictions of each model in a round; the 95th percentile of all is taken
POLICY = Path("mlflow") / "promotion_policy.yaml"

Rows = Mapping[str, Mapping[str, str]]  # of predictions, by audio digest


def read_policy(path: Path | None, name: str) -> tuple[Policy, Path]:
    """Return the limits for models called `name`, and their file.

    Without a path it is `mlflow/promotion_policy.yaml` of the working directory, or the one that is shipped.

    Raises:
        UserError: the file cannot be read, or says nothing of `name`.
    """
    own, shipped = Path.cwd() / POLICY, find_shipped("mlflow") / POLICY.name
    path = path or (own if own.exists() else shipped)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as a promotion policy: {error}".split("\n")[0]) from error
    if not isinstance(content, Mapping) or name not in content:
        has = ", ".join(map(str, content)) if isinstance(content, Mapping) else "nothing"
        raise UserError(f"{path} has no limits for {name}; it has: {has}")
    return Policy.of(content[name], f"{path}, {name}"), path


def gates_of(
    client: Client, candidate: RegisteredModel, champion: RegisteredModel | None, policy: Policy
) -> list[Gate]:
    """Return how a candidate does at every gate of a policy.

    Raises:
        UserError: its test predictions are gone.
    """
    return judge(facts_of(client, candidate, champion), policy)


def facts_of(client: Client, candidate: RegisteredModel, champion: RegisteredModel | None) -> Facts:
    """Return what the gates ask; both models are timed in this process, one after the other.

    Raises:
        UserError: the candidate's test predictions are gone.
    """
    ours = predictions_of(client, candidate)
    gain, incomparable = (None, "") if champion is None else gain_over(client, candidate, champion, ours)
    facts = Facts(
        candidate.title,
        candidate.tags.get("protocol", ""),
        judged_clips(ours),
        gain,
        champion_protocol=None if champion is None else champion.tags.get("protocol", ""),
        incomparable=incomparable,
    )
    try:
        bundle, folder = load(client, candidate), bundle_folder(client, candidate)
        if bundle.view.normalise == SPEAKER:
            return replace(facts, normalisation=SPEAKER)  # barred, and a clip alone is not enough to try it
        _predicts(bundle)
    except SerError as error:
        return replace(facts, broken=str(error))
    here, there = _p95s([bundle, None if champion is None else _loaded(client, champion)])
    return replace(
        facts,
        normalisation=bundle.view.normalise,
        size_mb=sum(path.stat().st_size for path in folder.iterdir()) / 1e6,
        latency_p95_ms=here,
        champion_latency_p95_ms=there,
    )


def judged_clips(rows: Rows) -> JudgedClips:
    """Return test predictions as arrays, clips by their digests."""
    ordered = [rows[clip] for clip in sorted(rows)]
    named = [name.removeprefix("p_") for name in ordered[0] if name.startswith("p_")]
    labels = tuple(named or sorted({row[key] for row in ordered for key in ("emotion", "predicted")}))
    truth, predicted = (np.array([labels.index(row[key]) for row in ordered]) for key in ("emotion", "predicted"))
    probabilities = np.array([[float(row[f"p_{label}"]) for label in labels] for row in ordered]) if named else None
    speakers, sexes = (np.array([row.get(key, "") for row in ordered]) for key in ("speaker", "sex"))
    return JudgedClips(labels, truth, predicted, speakers, sexes, probabilities)


def predictions_of(client: Client, model: RegisteredModel) -> Rows:
    """Return the rows of a version's test predictions by audio digest.

    Raises:
        UserError: they are gone.
    """
    try:
        root = client.get_run(model.run_id).info.artifact_uri
        path = Path(download_artifacts(artifact_uri=f"{root}/{model.tags.get('predictions', PREDICTIONS)}"))
    except (MlflowException, OSError) as error:
        raise UserError(f"{model.title} has lost its test predictions, without which it cannot be compared") from error
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = {row["audio_sha256"]: row for row in csv.DictReader(file)}
    except (UnicodeDecodeError, csv.Error, KeyError) as error:
        raise UserError(f"the test predictions of {model.title} are damaged") from error
    whole = all(None not in row.values() and row.keys() >= NEEDED for row in rows.values())
    if not rows or None in rows or not whole:
        raise UserError(f"the test predictions of {model.title} are damaged")
    return rows


def _predicts(bundle: Bundle) -> None:
    tone = Audio(np.sin(np.arange(SAMPLE_RATE) * 0.1).astype(np.float32), SAMPLE_RATE)
    if not np.isfinite(Predictor(bundle).probabilities(tone)).all():
        raise UserError("predicts what is not finite")


def _p95s(bundles: Sequence[Bundle | None]) -> list[float | None]:
    """Return the latency of each, measured in turn: what else the machine does falls on all of them."""
    times: list[list[float]] = [[] for _ in bundles]
    for _ in range(ROUNDS):
        for bundle, own in zip(bundles, times, strict=True):
            own += [] if bundle is None else latencies_ms(bundle, TIMED)
    return [float(np.quantile(own, 0.95)) if own else None for own in times]


def _loaded(client: Client, model: RegisteredModel) -> Bundle | None:
    """Return a bundle that can be timed; None of one that cannot, which another need not suffer for."""
    try:
        bundle = load(client, model)
    except SerError:
        return None
    return None if bundle.view.normalise == SPEAKER else bundle


def gain_over(
    client: Client, candidate: RegisteredModel, champion: RegisteredModel, ours: Rows
) -> tuple[Interval | None, str]:
    """Return the gain over the champion on the candidate's test clips, or why there is none.

    A champion that was tested on others is scored on these first; that is a look at them.
    """
    fingerprint = candidate.tags.get("test_fingerprint", "")
    try:
        if fingerprint == champion.tags.get("test_fingerprint"):
            theirs = {clip: row["predicted"] for clip, row in predictions_of(client, champion).items()}
        else:
            theirs = _scored(client, candidate, champion)
    except SerError as error:
        return None, f"{champion.title} was tested on other clips, and cannot be scored on these: {error}"
    if theirs.keys() != ours.keys():
        return None, f"{candidate.title} and {champion.title} list different test clips"
    clips = sorted(ours)
    names = sorted({row[key] for row in ours.values() for key in ("emotion", "predicted")} | {*theirs.values()})
    truth, new = (np.array([names.index(ours[clip][key]) for clip in clips]) for key in ("emotion", "predicted"))
    old = np.array([names.index(theirs[clip]) for clip in clips])
    speakers = np.array([ours[clip]["speaker"] for clip in clips])
    return paired_interval(truth, old, new, speakers, level=1 - LEVEL / max(1, reads(fingerprint))), ""


def _scored(client: Client, candidate: RegisteredModel, champion: RegisteredModel) -> dict[str, str]:
    """Return what the champion says of the candidate's test clips, by audio digest.

    Raises:
        SerError: it has heard them, knows other emotions, or the corpus is not at hand.
    """
    own = load(client, candidate).provenance
    request = DataRequest(
        CorpusRequest(own["corpus"]),
        protocol=own["split_protocol"],
        fold=int(own["split_fold"]) if own["split_fold"] else None,
        seed=int(own["split_seed"]),
    )
    found = assess(load(client, champion), champion.title, request, Display(Console(quiet=True)), part="test")
    labels = load(client, champion).labels
    said = (labels[number] for number in found.score.predictions)
    return dict(zip(found.clips.column("audio_sha256"), said, strict=True))


@dataclass(frozen=True)
class Beside:
    """Two versions on the same test clips, measured in one process. Latencies are None of what cannot be loaded.

    Attributes:
        models, clips, latency_p95_ms, size_mb: of the first and of the second.
        gain: UAR of the second minus the first's; None where `incomparable` says why.
    """

    models: tuple[RegisteredModel, RegisteredModel]
    clips: tuple[JudgedClips, JudgedClips]
    gain: Interval | None
    incomparable: str
    latency_p95_ms: tuple[float | None, float | None]


def compare(client: Client, first: RegisteredModel, second: RegisteredModel) -> Beside:
    """Compare two versions; what has been tested on other clips is scored on the second's, which is a look at them.

    Raises:
        UserError: the test predictions of one of them are gone.
    """
    theirs, ours = predictions_of(client, first), predictions_of(client, second)
    gain, why = gain_over(client, second, first, ours)
    here, there = _p95s([_loaded(client, first), _loaded(client, second)])
    return Beside((first, second), (judged_clips(theirs), judged_clips(ours)), gain, why, (here, there))
