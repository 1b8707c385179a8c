"""Measurements for the promotion gates: UAR of candidate and champion on the same test clips, latency and size."""

import contextlib
import csv
import json
from collections.abc import Mapping
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
from ser_platform.evaluation.assessment import assess, restore_split
from ser_platform.evaluation.intervals import Interval, paired_interval
from ser_platform.evaluation.promotion_gates import Gate, GateInputs, PromotionPolicy, TestPredictions, evaluate_gates
from ser_platform.evaluation.task import Task
from ser_platform.evaluation.test_ledger import count_test_evaluations
from ser_platform.features.dataset import DataRequest
from ser_platform.features.views.normaliser import SPEAKER_NORMALISATION
from ser_platform.inference.bundle import Bundle
from ser_platform.inference.bundle_latency import Latency, measure_latencies
from ser_platform.inference.predictor import Predictor
from ser_platform.progress import Display
from ser_platform.shipped_folders import find_shipped
from ser_platform.tracking.mlflow_store import Client
from ser_platform.tracking.registry import (
    CANDIDATE,
    RegisteredVersion,
    download_bundle,
    find_role,
    load_bundle,
    load_description,
    make_model_name,
)

ERROR_LEVEL = 0.05  # of the UAR gate; it is divided by the number of test evaluations
PREDICTIONS_FILE = "test/predictions.csv"  # among the artefacts of a study's run
REQUIRED_COLUMNS = {"audio_sha256", "speaker", "emotion", "predicted"}
POLICY_FILE = Path("mlflow") / "promotion_policy.yaml"

PredictionRows = Mapping[str, Mapping[str, str]]  # rows of the file of predictions, by audio digest


def read_policy(path: Path | None, name: str) -> tuple[PromotionPolicy, Path]:
    """Return the promotion policy for models called `name`, and its file.

    Without `path` the file is `mlflow/promotion_policy.yaml` in the working directory, else the shipped one. A name
    without a policy of its own has that of its role, `ser-ROLE`. Raises UserError where the file cannot be read, or has
    no policy for `name`.
    """
    own, shipped = Path.cwd() / POLICY_FILE, find_shipped("mlflow") / POLICY_FILE.name
    path = path or (own if own.exists() else shipped)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read as a promotion policy: {error}".split("\n")[0]) from error
    if isinstance(content, Mapping) and name not in content and (role := find_role(name)):
        name = make_model_name(role)
    if not isinstance(content, Mapping) or name not in content:
        has = ", ".join(map(str, content)) if isinstance(content, Mapping) else "nothing"
        raise UserError(f"{path} has no limits for {name}; it has: {has}")
    return PromotionPolicy.parse(content[name], f"{path}, {name}"), path


def evaluate_candidate(
    client: Client,
    candidate: RegisteredVersion,
    champion: RegisteredVersion | None,
    policy: PromotionPolicy,
    is_replacement: bool = False,
) -> list[Gate]:
    """Return the outcome of every gate of a policy; both models are timed in this process.

    A champion of another task is neither evaluated nor timed; `is_replacement` permits to replace it.

    Raises UserError where the test predictions of the candidate cannot be read.
    """
    return evaluate_gates(_collect_gate_inputs(client, candidate, champion, is_replacement), policy)


def _collect_gate_inputs(
    client: Client, candidate: RegisteredVersion, champion: RegisteredVersion | None, is_replacement: bool
) -> GateInputs:
    ours = read_test_predictions(client, candidate)
    reference = candidate.name if CANDIDATE in candidate.aliases else f"{candidate.name}/{candidate.version}"
    inputs = GateInputs(
        candidate.title,
        Task.from_tags(candidate.tags),
        candidate.tags.get("protocol", ""),
        to_test_predictions(ours),
        gain=None,
        champion_title="" if champion is None else champion.title,
        champion_task=None if champion is None else _find_champion_task(client, candidate, champion),
        replace_command=f"ser models promote {reference} --replace",
        is_replacement=is_replacement,
    )
    if inputs.why_not_compared:
        champion = None
    if champion is not None:
        gain, incomparable = compute_gain(client, candidate, champion, ours)
        protocol = champion.tags.get("protocol", "")
        inputs = replace(inputs, gain=gain, why_no_gain=incomparable, champion_protocol=protocol)
    try:
        bundle, folder = load_bundle(client, candidate), download_bundle(client, candidate)
        if bundle.view.normalise == SPEAKER_NORMALISATION:
            return replace(inputs, normalisation=SPEAKER_NORMALISATION)  # refused; it cannot predict a clip alone
        _require_finite_prediction(bundle)
    except SerError as error:
        return replace(inputs, bundle_error=str(error))
    here, there = measure_latencies([bundle, None if champion is None else _load_for_timing(client, champion)])
    return replace(
        inputs,
        normalisation=bundle.view.normalise,
        size_mb=sum(path.stat().st_size for path in folder.iterdir()) / 1e6,
        latency_p95_ms=None if here is None else here.wall_p95_ms,
        latency_cpu_ms=None if here is None else here.cpu_ms,
        champion_latency_cpu_ms=None if there is None else there.cpu_ms,
    )


def _find_champion_task(client: Client, candidate: RegisteredVersion, champion: RegisteredVersion) -> Task:
    """Return the task of the champion; two own folders of one name are one where the models have a clip in common."""
    task = Task.from_tags(champion.tags)
    if task.has_own_folder and task.corpora == Task.from_tags(candidate.tags).corpora:
        with contextlib.suppress(SerError):  # a bundle that cannot be read fails a gate of its own
            ours, theirs = (load_description(client, model).lineage for model in (candidate, champion))
            return task if ours.shares_audio(theirs) else task.mark_own_folders()
    return task


def to_test_predictions(rows: PredictionRows) -> TestPredictions:
    """Return test predictions as arrays, with clips in the order of their digests."""
    ordered = [rows[clip] for clip in sorted(rows)]
    named = [name.removeprefix("p_") for name in ordered[0] if name.startswith("p_")]
    labels = tuple(named or sorted({row[key] for row in ordered for key in ("emotion", "predicted")}))
    truth, predicted = (np.array([labels.index(row[key]) for row in ordered]) for key in ("emotion", "predicted"))
    probabilities = np.array([[float(row[f"p_{label}"]) for label in labels] for row in ordered]) if named else None
    speakers, sexes = (np.array([row.get(key, "") for row in ordered]) for key in ("speaker", "sex"))
    return TestPredictions(labels, truth, predicted, speakers, sexes, probabilities)


def read_test_predictions(client: Client, model: RegisteredVersion) -> PredictionRows:
    """Return the test predictions of a version. Raises UserError where they are missing or damaged."""
    try:
        root = client.get_run(model.run_id).info.artifact_uri
        path = Path(download_artifacts(artifact_uri=f"{root}/{model.tags.get('predictions', PREDICTIONS_FILE)}"))
    except (MlflowException, OSError) as error:
        raise UserError(f"the test predictions of {model.title}, which the comparison needs, cannot be read") from error
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = {row["audio_sha256"]: row for row in csv.DictReader(file)}
    except (UnicodeDecodeError, csv.Error, KeyError) as error:
        raise UserError(f"the test predictions of {model.title} are damaged") from error
    whole = all(None not in row.values() and row.keys() >= REQUIRED_COLUMNS for row in rows.values())
    if not rows or None in rows or not whole:
        raise UserError(f"the test predictions of {model.title} are damaged")
    return rows


def _require_finite_prediction(bundle: Bundle) -> None:
    tone = Audio(np.sin(np.arange(SAMPLE_RATE) * 0.1).astype(np.float32), SAMPLE_RATE)
    if not np.isfinite(Predictor(bundle).predict_probabilities(tone)).all():
        raise UserError("the bundle predicts probabilities that are not finite")


def _load_for_timing(client: Client, model: RegisteredVersion) -> Bundle | None:
    """Return the bundle of a version; None where it cannot be read, or cannot predict a clip alone."""
    try:
        bundle = load_bundle(client, model)
    except SerError:
        return None
    return None if bundle.view.normalise == SPEAKER_NORMALISATION else bundle


def compute_gain(
    client: Client, candidate: RegisteredVersion, champion: RegisteredVersion, ours: PredictionRows
) -> tuple[Interval | None, str]:
    """Return the gain over the champion on the candidate's test clips and "", or None and the reason.

    A champion that was tested on other clips is evaluated on these first, which the test ledger counts.
    """
    fingerprint = candidate.tags.get("test_fingerprint", "")
    try:
        if fingerprint == champion.tags.get("test_fingerprint"):
            theirs = {clip: row["predicted"] for clip, row in read_test_predictions(client, champion).items()}
        else:
            theirs = _score_champion(client, candidate, champion)
    except SerError as error:
        return None, f"{champion.title} was tested on other clips, and cannot be evaluated on these: {error}"
    if theirs.keys() != ours.keys():
        return None, f"{candidate.title} and {champion.title} list different test clips"
    emotions = [(row["emotion"], theirs[clip], row["predicted"]) for clip, row in sorted(ours.items())]
    _, classes = np.unique(emotions, return_inverse=True)
    truth, old, new = classes.reshape(-1, 3).T
    speakers = np.array([row["speaker"] for _, row in sorted(ours.items())])
    level = 1 - ERROR_LEVEL / max(1, count_test_evaluations(fingerprint))
    return paired_interval(truth, old, new, speakers, level), ""


def _score_champion(client: Client, candidate: RegisteredVersion, champion: RegisteredVersion) -> dict[str, str]:
    """Return the emotions that the champion predicts for the candidate's test clips, by audio digest."""
    own, bundle = load_bundle(client, candidate).provenance, load_bundle(client, champion)
    speech = CorpusRequest(**json.loads(candidate.tags.get("speech", json.dumps({"corpus": own["corpus"]}))))
    request = restore_split(DataRequest(speech), own)
    found = assess(bundle, champion.title, request, Display(Console(quiet=True)), part="test")
    predicted = (bundle.labels[number] for number in found.score.predictions)
    return dict(zip(found.clips.column("audio_sha256"), predicted, strict=True))


@dataclass(frozen=True)
class VersionComparison:
    """The measurements of two versions on the same test clips, in one process.

    Attributes:
        models, test_predictions: of the first and of the second version.
        gain: UAR of the second minus that of the first; None where `why_no_gain` gives the reason.
        latencies: of the first and of the second; None for a bundle that cannot be timed.
    """

    models: tuple[RegisteredVersion, RegisteredVersion]
    test_predictions: tuple[TestPredictions, TestPredictions]
    gain: Interval | None
    why_no_gain: str
    latencies: tuple[Latency | None, Latency | None]


def compare_versions(client: Client, first: RegisteredVersion, second: RegisteredVersion) -> VersionComparison:
    """Return a comparison of two versions on the test clips of the second.

    A first version that was tested on other clips is evaluated on these, which the test ledger counts. Raises UserError
    where the test predictions of a version cannot be read.
    """
    theirs, ours = read_test_predictions(client, first), read_test_predictions(client, second)
    gain, why = compute_gain(client, second, first, ours)
    here, there = measure_latencies([_load_for_timing(client, first), _load_for_timing(client, second)])
    return VersionComparison(
        (first, second), (to_test_predictions(theirs), to_test_predictions(ours)), gain, why, (here, there)
    )
