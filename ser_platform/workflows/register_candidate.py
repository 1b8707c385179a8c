"""From trained weights to a registered candidate: pack the bundle, read the test once, log the result, register."""

import csv
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from ser_platform import __version__
from ser_platform.corpora.datasets import CORPORA
from ser_platform.corpora.lineage import Lineage
from ser_platform.corpora.splits.split import Split
from ser_platform.evaluation.groups import group_scores
from ser_platform.evaluation.model_card import model_card
from ser_platform.evaluation.scoring import TestScore, logits_of, score_test
from ser_platform.evaluation.test_figures import confusion_figure, learning_figure, recall_figure
from ser_platform.evaluation.test_ledger import record_read
from ser_platform.features.dataset import Dataset
from ser_platform.features.views.normaliser import SPEAKER
from ser_platform.inference.bundle import Bundle
from ser_platform.inference.bundle_latency import bundle_latency_ms
from ser_platform.settings import Settings
from ser_platform.shipped_folders import find_checkout
from ser_platform.tracking.gate_inputs import PREDICTIONS
from ser_platform.tracking.mlflow_store import Client
from ser_platform.tracking.registry import (
    RegisteredModel,
    model_name,
    place_of,
    register,
)
from ser_platform.training.calibration import fit_temperature
from ser_platform.training.configuration import feature_view, parameters_of, stamped
from ser_platform.training.epoch_result import EpochResult
from ser_platform.tuning.execution.fit_job import Fit
from ser_platform.tuning.study.warm_start import NOTHING, Past
from ser_platform.tuning.teacher_labels.teacher import Teacher
from ser_platform.tuning.teacher_labels.unlabelled_pool import Unlabelled

PROVENANCE_TAGS = ("corpus", "study", "trial", "test_fingerprint", "manifest", "split")


@dataclass(frozen=True)
class Origin:
    """Where a candidate comes from.

    Attributes:
        name: of the study or training; `trial` its number there.
        split: of the study, by whose test clips candidates are compared; weights may come from a rotation of it.
        unlabelled: speech that may have joined distillation.
    """

    role: str
    dataset: Dataset
    split: Split
    name: str
    trial: int
    code_version: str
    teacher: Teacher | None
    past: Past = NOTHING
    unlabelled: Unlabelled | None = None


def code_version() -> str:
    """Return the package's version, and the commit where it runs from a checkout."""
    root = find_checkout()
    if root is None or not (root / ".git").exists():
        return __version__
    done = subprocess.run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return f"{__version__}+{done.stdout.strip()}" if done.returncode == 0 else __version__


def pack(origin: Origin, fit: Fit, settings: Settings, trained_on: Split, epochs: int, dev: dict[str, float]) -> Bundle:
    """Return the bundle of trained weights, calibrated on dev, without test figures; `dev` are its dev figures."""
    labels = origin.dataset.labels
    assert fit.dev_logits is not None
    temperature = fit_temperature(fit.dev_logits, trained_on.manifest.targets(labels)[trained_on.dev])
    lineage = Lineage.of_split(trained_on)
    if origin.teacher is not None and settings["distill.alpha"] > 0:
        lineage = lineage.union(origin.teacher.described.lineage)
        if settings["distill.unlabelled"] and origin.unlabelled is not None:
            lineage = lineage.union(origin.unlabelled.lineage)
    lineage = lineage.union(origin.past.lineage)
    return Bundle(
        role=origin.role,
        settings=settings,
        view=feature_view(settings),
        labels=labels,
        state=fit.state,
        normaliser=fit.normaliser,
        temperature=temperature,
        protocol=stamped(origin.split.protocol_stamp, settings) + origin.past.stamp,
        metrics=dict(dev),
        lineage=lineage,
        provenance={
            "corpus": origin.dataset.name,
            "manifest": origin.split.manifest.fingerprint,
            "split": origin.split.fingerprint,
            "split_protocol": origin.split.protocol,
            "split_fold": origin.split.fold.partition("/")[0],
            "split_seed": str(origin.split.seed),
            "test_fingerprint": origin.split.test_fingerprint,
            "study": origin.name,
            "trial": str(origin.trial),
            "epochs": str(max(1, epochs)),
            "code_version": origin.code_version,
        },
    )


def score_and_register(
    origin: Origin, bundle: Bundle, epochs: Sequence[EpochResult], client: Client, run_id: str
) -> tuple[TestScore, RegisteredModel, int]:
    """Read the test once, log the predictions and figures to a run, register the bundle that `epochs` came to.

    Returns the score, the registered version, and how many models these test clips have judged so far.
    """
    split = origin.split
    logits = logits_of(bundle, split.manifest, split.test)
    score = score_test(split, bundle.labels, logits.argmax(axis=1))
    bundle.metrics.update(score.metrics)
    looks = record_read(split.test_fingerprint, bundle.ledger_key, f"{origin.role} of {origin.name}")
    card = _card(origin, bundle, score, looks)
    tags = {name: bundle.provenance[name] for name in PROVENANCE_TAGS}
    tags |= {"protocol": bundle.protocol, "metrics": rounded(bundle.metrics), "test_looks": str(looks)}
    tags["labels"] = " ".join(bundle.labels)
    if (teacher := _teacher_of(origin, bundle)) is not None:
        tags["teacher"] = teacher
    name = model_name(origin.role)
    predictions = Path(PREDICTIONS)
    place = predictions.parent.name + place_of(client, name, run_id, tags["trial"])
    tags["predictions"] = f"{place}/{predictions.name}"
    with TemporaryDirectory() as scratch:
        probabilities = softmax(logits / bundle.temperature, axis=1)
        log_test(client, run_id, origin, bundle.protocol, score, probabilities, Path(scratch), place, epochs)
        figures = sorted((Path(scratch) / predictions.parent).glob("*.png"))
        folder = Path(scratch) / "bundle"
        digest = bundle.write(folder, card)
        tags["size_bytes"] = str(sum(path.stat().st_size for path in folder.iterdir()))
        if bundle.view.normalise != SPEAKER:  # a clip alone is not enough for it
            tags["latency_ms"] = f"{bundle_latency_ms(bundle):.2f}"
        tags["parameters"] = str(parameters_of(bundle.settings, len(bundle.labels), bundle.state))
        model = register(client, name, run_id, folder, digest, tags, card, figures)
    return score, model, looks


def log_test(
    client: Client,
    run_id: str,
    origin: Origin,
    protocol: str,
    score: TestScore,
    probabilities: NDArray[np.float32],
    scratch: Path,
    place: str,
    epochs: Sequence[EpochResult] = (),
) -> None:
    """Log the test predictions, their figures and that of the epochs to a run, in its folder `place`."""
    folder, labels = scratch / Path(PREDICTIONS).parent, origin.dataset.labels
    title = f"{origin.name}: test UAR {score.uar.value:.3f}, protocol {protocol}"
    confusion_figure(score.matrix, labels, title, folder / "confusion_matrix.png")
    recall_figure(score.matrix, labels, title, folder / "recall.png")
    if len(epochs) > 1:  # what is solved at once has no curve
        learning_figure(epochs, f"{origin.name}: the weights that were registered", folder / "learning_curves.png")
    test = origin.split.manifest.take(origin.split.test)
    with (scratch / PREDICTIONS).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        named = [f"p_{label}" for label in labels]
        writer.writerow(["audio_sha256", "id", "speaker", "sex", "emotion", "predicted", *named])
        for clip, prediction, row in zip(test, score.predictions, probabilities, strict=True):
            words = [clip.audio_sha256, clip.id, clip.speaker, clip.sex or "", clip.emotion, labels[prediction]]
            writer.writerow([*words, *(f"{p:.6f}" for p in row)])
    client.log_artifacts(run_id, str(folder), place)


def rounded(metrics: Mapping[str, float]) -> str:
    """Return figures as JSON with six decimals, as a tag holds them."""
    return json.dumps({name: round(value, 6) for name, value in metrics.items()})


def _teacher_of(origin: Origin, bundle: Bundle) -> str | None:
    return origin.teacher.title if origin.teacher is not None and bundle.settings["distill.alpha"] > 0 else None


def _card(origin: Origin, bundle: Bundle, score: TestScore, looks: int) -> str:
    return model_card(
        role=origin.role,
        settings=bundle.settings,
        parameters=parameters_of(bundle.settings, len(bundle.labels), bundle.state),
        labels=bundle.labels,
        corpus=origin.dataset.name,
        protocol=bundle.protocol,
        uar=score.uar,
        looks=looks,
        metrics=score.metrics,
        teacher=_teacher_of(origin, bundle),
        heard=_heard(origin, bundle),
        groups=group_scores(origin.split.manifest.take(origin.split.test), bundle.labels, score.predictions),
    )


def _heard(origin: Origin, bundle: Bundle) -> list[str]:
    """Return the corpora that a model has learnt from, its ancestors' and unlabelled ones among them."""
    split = origin.split
    own = set(split.manifest.take(np.concatenate([split.train, split.dev])).column("corpus"))
    speakers = (*bundle.lineage.trained_speakers, *bundle.lineage.selected_speakers)
    passed_on = {name for name in CORPORA if any(speaker.startswith(f"{name}-") for speaker in speakers)}
    return sorted(own | (passed_on - {"folder"}))
