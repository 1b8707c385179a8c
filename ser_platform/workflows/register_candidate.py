"""From trained weights to a registered candidate: pack the bundle, test once, log the result, register."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from ser_platform import __version__
from ser_platform.corpora.datasets import CORPORA
from ser_platform.corpora.lineage import Lineage
from ser_platform.corpora.splits.split import Split
from ser_platform.evaluation.groups import score_groups
from ser_platform.evaluation.model_card import render_model_card
from ser_platform.evaluation.predictions_file import write_predictions
from ser_platform.evaluation.scoring import TestScore, compute_logits, score_test
from ser_platform.evaluation.test_figures import draw_confusion_matrix, draw_learning_curves, draw_recalls
from ser_platform.evaluation.test_ledger import record_test_evaluation
from ser_platform.features.dataset import Dataset
from ser_platform.features.views.normaliser import SPEAKER_NORMALISATION
from ser_platform.inference.bundle import Bundle
from ser_platform.inference.bundle_latency import measure_bundle_latency_ms
from ser_platform.settings import Settings
from ser_platform.shipped_folders import find_checkout
from ser_platform.tracking.gate_inputs import PREDICTIONS_FILE
from ser_platform.tracking.mlflow_store import Client
from ser_platform.tracking.registry import (
    RegisteredVersion,
    make_artifact_suffix,
    make_model_name,
    register,
)
from ser_platform.training.calibration import fit_temperature
from ser_platform.training.configuration import count_prediction_parameters, feature_view, stamp_protocol
from ser_platform.training.epoch_result import EpochResult
from ser_platform.tuning.execution.fit_job import FitResult
from ser_platform.tuning.study.warm_start import NO_WARM_START, WarmStart
from ser_platform.tuning.teacher_labels.teacher import Teacher
from ser_platform.tuning.teacher_labels.unlabelled_pool import UnlabelledPool

PROVENANCE_TAGS = ("corpus", "study", "trial", "test_fingerprint", "manifest", "split")


@dataclass(frozen=True)
class Origin:
    """The origin of a candidate.

    Attributes:
        study_name: name of the study or training; `trial_number` is the number of the trial in it.
        split: split of the study, whose test clips compare candidates; the weights may be of a rotation of it.
        unlabelled: speech that may have been used in distillation.
        register_as: prefix of the registered name, "" for the default.
    """

    role: str
    dataset: Dataset
    split: Split
    study_name: str
    trial_number: int
    teacher: Teacher | None
    warm_start: WarmStart = NO_WARM_START
    unlabelled: UnlabelledPool | None = None
    register_as: str = ""


def find_code_version() -> str:
    """Return the package's version, and the commit where it runs from a checkout."""
    root = find_checkout()
    if root is None or not (root / ".git").exists():
        return __version__
    done = subprocess.run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return f"{__version__}+{done.stdout.strip()}" if done.returncode == 0 else __version__


def pack_bundle(
    origin: Origin, fit: FitResult, settings: Settings, trained_on: Split, epochs: int, dev_metrics: dict[str, float]
) -> Bundle:
    """Return the bundle of trained weights, calibrated on dev, with `dev_metrics` and without test figures."""
    labels = origin.dataset.labels
    assert fit.dev_logits is not None
    temperature = fit_temperature(fit.dev_logits, trained_on.manifest.encode_targets(labels)[trained_on.dev])
    lineage = Lineage.of_split(trained_on)
    if origin.teacher is not None and settings.distill.alpha > 0:
        lineage = lineage.union(origin.teacher.description.lineage)
        if settings.distill.unlabelled and origin.unlabelled is not None:
            lineage = lineage.union(origin.unlabelled.lineage)
    lineage = lineage.union(origin.warm_start.lineage)
    return Bundle(
        role=origin.role,
        settings=settings,
        view=feature_view(settings),
        labels=labels,
        state=fit.state,
        normaliser=fit.normaliser,
        temperature=temperature,
        protocol=stamp_protocol(origin.split.protocol_stamp, settings) + origin.warm_start.stamp,
        metrics=dict(dev_metrics),
        lineage=lineage,
        provenance={
            "corpus": origin.dataset.name,
            "manifest": origin.split.manifest.fingerprint,
            "split": origin.split.fingerprint,
            "split_protocol": origin.split.protocol,
            "split_fold": origin.split.fold.partition("/")[0],
            "split_seed": str(origin.split.seed),
            "test_fingerprint": origin.split.test_fingerprint,
            "study": origin.study_name,
            "trial": str(origin.trial_number),
            "epochs": str(max(1, epochs)),
            "code_version": find_code_version(),
        },
    )


def score_and_register(
    origin: Origin, bundle: Bundle, epochs: Sequence[EpochResult], client: Client, run_id: str
) -> tuple[TestScore, RegisteredVersion, int]:
    """Evaluate the test clips once, log predictions and figures to a run, register the bundle.

    Returns the score, the registered version, and the number of evaluations of these test clips so far.
    """
    split = origin.split
    logits = compute_logits(bundle, split.manifest, split.test)
    score = score_test(split, bundle.labels, logits.argmax(axis=1))
    bundle.metrics.update(score.metrics)
    n_test_evaluations = record_test_evaluation(
        split.test_fingerprint, bundle.ledger_key, f"{origin.role} of {origin.study_name}"
    )
    card = _make_card(origin, bundle, score, n_test_evaluations)
    tags = {name: bundle.provenance[name] for name in PROVENANCE_TAGS}
    tags |= {
        "protocol": bundle.protocol,
        "metrics": encode_metrics(bundle.metrics),
        "test_looks": str(n_test_evaluations),
        "speech": json.dumps(asdict(origin.dataset.speech)),
    }
    tags["labels"] = " ".join(bundle.labels)
    if (teacher := _find_teacher_title(origin, bundle)) is not None:
        tags["teacher"] = teacher
    name = make_model_name(origin.role, origin.register_as)
    predictions = Path(PREDICTIONS_FILE)
    artifact_folder = predictions.parent.name + make_artifact_suffix(client, name, run_id, tags["trial"])
    tags["predictions"] = f"{artifact_folder}/{predictions.name}"
    with TemporaryDirectory() as scratch:
        probabilities = softmax(logits / bundle.temperature, axis=1)
        log_test_predictions(
            client, run_id, origin, bundle.protocol, score, probabilities, Path(scratch), artifact_folder, epochs
        )
        figures = sorted((Path(scratch) / predictions.parent).glob("*.png"))
        folder = Path(scratch) / "bundle"
        digest = bundle.write(folder, card)
        tags["size_bytes"] = str(sum(path.stat().st_size for path in folder.iterdir()))
        if bundle.view.normalise != SPEAKER_NORMALISATION:  # it needs several clips of a speaker
            tags["latency_ms"] = f"{measure_bundle_latency_ms(bundle):.2f}"
        tags["parameters"] = str(count_prediction_parameters(bundle.settings, len(bundle.labels), bundle.state))
        model = register(client, name, run_id, folder, digest, tags, card, figures)
    return score, model, n_test_evaluations


def log_test_predictions(
    client: Client,
    run_id: str,
    origin: Origin,
    protocol: str,
    score: TestScore,
    probabilities: NDArray[np.float32],
    scratch: Path,
    artifact_folder: str,
    epochs: Sequence[EpochResult] = (),
) -> None:
    """Log the test predictions and figures of them and of the epochs to the folder `artifact_folder` of a run."""
    folder, labels = scratch / Path(PREDICTIONS_FILE).parent, origin.dataset.labels
    title = f"{origin.study_name}: test UAR {score.uar.value:.3f}, protocol {protocol}"
    draw_confusion_matrix(score.matrix, labels, title, folder / "confusion_matrix.png")
    draw_recalls(score.matrix, labels, title, folder / "recall.png")
    if len(epochs) > 1:  # a closed-form solution has no learning curve
        draw_learning_curves(epochs, f"{origin.study_name}: the registered weights", folder / "learning_curves.png")
    test = origin.split.manifest.take(origin.split.test)
    columns: dict[str, Any] = {name: test.column(name) for name in ("audio_sha256", "id", "speaker", "sex", "emotion")}
    columns["predicted"] = [labels[row] for row in score.predictions]
    write_predictions(scratch / PREDICTIONS_FILE, columns, labels, probabilities)
    client.log_artifacts(run_id, str(folder), artifact_folder)


def encode_metrics(metrics: Mapping[str, float]) -> str:
    """Return metrics as JSON with six decimals, for a tag."""
    return json.dumps({name: round(value, 6) for name, value in metrics.items()})


def _find_teacher_title(origin: Origin, bundle: Bundle) -> str | None:
    return origin.teacher.title if origin.teacher is not None and bundle.settings.distill.alpha > 0 else None


def _make_card(origin: Origin, bundle: Bundle, score: TestScore, n_test_evaluations: int) -> str:
    return render_model_card(
        role=origin.role,
        settings=bundle.settings,
        parameters=count_prediction_parameters(bundle.settings, len(bundle.labels), bundle.state),
        labels=bundle.labels,
        corpus=origin.dataset.name,
        protocol=bundle.protocol,
        uar=score.uar,
        n_test_evaluations=n_test_evaluations,
        metrics=score.metrics,
        temperature=bundle.temperature,
        teacher=_find_teacher_title(origin, bundle),
        trained_on=_list_training_corpora(origin, bundle),
        groups=score_groups(origin.split.manifest.take(origin.split.test), bundle.labels, score.predictions),
    )


def _list_training_corpora(origin: Origin, bundle: Bundle) -> list[str]:
    """Return the corpora in the training data of a model, of its ancestors and of unlabelled speech."""
    split = origin.split
    own_corpora = set(split.manifest.take(np.concatenate([split.train, split.dev])).column("corpus"))
    speakers = (*bundle.lineage.trained_speakers, *bundle.lineage.selected_speakers)
    inherited = {name for name in CORPORA if any(speaker.startswith(f"{name}-") for speaker in speakers)}
    return sorted(own_corpora | (inherited - {"folder"}))
