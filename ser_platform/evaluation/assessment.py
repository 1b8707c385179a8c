"""Evaluation of a trained model on a corpus: labels are mapped, lineage is checked, the test ledger is updated."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from ser_platform.corpora.corpus_lookup import read_requested_speech
from ser_platform.corpora.lineage import LINEAGE_LEAK_STAMP, refuse_overlap
from ser_platform.corpora.manifest import Manifest
from ser_platform.corpora.splits.split import SPEAKERS_UNKNOWN, fingerprint_clips
from ser_platform.emotions import SHARED, LabelRules
from ser_platform.errors import CorpusError, UnknownChoice, UserError
from ser_platform.evaluation.scoring import TestScore, compute_logits, score_clips
from ser_platform.evaluation.test_ledger import record_test_evaluation
from ser_platform.features.dataset import DataRequest, make_folds, prepare_speech
from ser_platform.inference.bundle import Bundle
from ser_platform.progress import Display
from ser_platform.training.configuration import stamp_protocol

PARTS = ("test", "dev", "all")


@dataclass(frozen=True)
class Assessment:
    """The result of a model on some clips.

    Attributes:
        part: "test" or "dev" of the split, or "all" clips of the corpus.
        protocol: the split's stamp, with the leaks that were allowed.
        probabilities: calibrated, `(n_clips, n_emotions)`.
        n_test_evaluations: number of models evaluated on these clips, this one included; None for dev, which selects.
    """

    corpus: str
    part: str
    protocol: str
    clips: Manifest
    score: TestScore
    probabilities: NDArray[np.float32]
    n_test_evaluations: int | None


def assess(
    bundle: Bundle,
    title: str,
    request: DataRequest,
    display: Display,
    *,
    part: str | None = None,
    labels: str | None = None,
    use_own_split: bool = False,
    allow_leak: bool = False,
) -> Assessment:
    """Score a model on a corpus, and record the evaluation in the test ledger unless it is on dev.

    Args:
        title: the name of the model in messages and in the ledger.
        request: the speech and its split.
        part: one of `PARTS`; None is "test" where `use_own_split` is not set or the model was trained on a speaker of
            the corpus, else "all".
        labels: the rules for labels; None is the model's own.
        use_own_split: on the corpus that the model was trained on, use its split instead of the requested one.
        allow_leak: score clips that the model was trained on, and stamp the result.

    Raises:
        UserError: the corpus has emotions that the model does not know.
        LineageLeak: the model was trained on these clips or their speakers; the message lists them.
    """
    if part is not None and part not in PARTS:
        raise UnknownChoice("part", part, PARTS)
    request = request.with_labels(_choose_label_rules(bundle, request, labels))
    check, dtype = partial(_require_known, bundle), bundle.settings.features.dtype
    speech = prepare_speech(request, display, check, bundle.view.required_families, dtype=dtype)
    if part is None:
        n_overlap = len(bundle.lineage.find_overlap(speech.manifest))
        part = "test" if n_overlap or not use_own_split else "all"
        if n_overlap:
            display.print_line(
                f"note: {title} was trained on {n_overlap} of {len(speech.manifest)} clips or their speakers: "
                "only the test part of a split is scored"
            )
    if use_own_split and part != "all" and speech.name == bundle.provenance.get("corpus"):
        request = replace(_use_model_split(bundle, request), allow_leaky_split=allow_leak)
    clips, split_protocol = _select_part(speech.manifest, speech.name, request, part)
    protocol = stamp_protocol(split_protocol, bundle.settings)
    leaks = bundle.lineage.find_overlap(clips, include_selected=part != "dev")
    if leaks and not allow_leak:
        refuse_overlap(leaks, clips, title, part, "; --allow-leak scores them and stamps the result")
    logits = compute_logits(bundle, clips, np.arange(len(clips)))
    score = score_clips(clips, bundle.labels, logits.argmax(axis=1))
    what, count = f"{title} on {speech.name}, {part}", None
    if part != "dev":
        count = record_test_evaluation(fingerprint_clips(clips), bundle.ledger_key, what)
    if leaks:
        protocol += f" ({LINEAGE_LEAK_STAMP}: trained on {len(leaks)} of {len(clips)} clips or their speakers)"
    probabilities = softmax(logits / bundle.temperature, axis=1)
    return Assessment(speech.name, part, protocol, clips, score, probabilities, count)


def _choose_label_rules(bundle: Bundle, request: DataRequest, labels: str | None) -> str:
    """Return the user's rules for labels, or the model's own; `shared` then drops emotions the model does not know."""
    if labels is not None:
        return labels
    own = str(bundle.settings.data.labels)
    if LabelRules.parse(own).base != SHARED:
        return own
    present = read_requested_speech(replace(request.speech, labels=own)).manifest.labels
    return ", ".join([own, *(f"drop {emotion}" for emotion in present if emotion not in bundle.labels)])


def _require_known(bundle: Bundle, name: str, manifest: Manifest) -> None:
    foreign = [label for label in manifest.labels if label not in bundle.labels]
    if foreign:
        rules = ", ".join(f"drop {label}" for label in foreign)
        raise CorpusError(
            f"{name} has {', '.join(foreign)}, which the model does not know (it knows {', '.join(bundle.labels)}); "
            f"map or drop them, like --labels '{rules}'"
        )


def _select_part(manifest: Manifest, name: str, request: DataRequest, part: str) -> tuple[Manifest, str]:
    """Return the clips of a part, and the stamp of their protocol."""
    if part == "all":
        unknown = f" ({SPEAKERS_UNKNOWN})" if manifest.corpora_without_speakers else ""
        return manifest, f"all clips of {name}{unknown}"
    splits = make_folds(manifest, request)
    if len(splits) > 1:
        raise UserError(f"protocol {request.protocol!r} makes {len(splits)} folds; choose one with --fold")
    return manifest.take(splits[0].parts[part]), splits[0].protocol_stamp


def _use_model_split(bundle: Bundle, request: DataRequest) -> DataRequest:
    """Return the request with the model's split. Raises UserError for a split in a file, which the user has to name."""
    own = bundle.provenance
    if own["split_protocol"].startswith("fixed"):
        raise UserError(
            f"the model's split was {own['split_protocol']} fold {own['split_fold']}; give it with "
            "--protocol fixed:PATH --fold N, or another --protocol"
        )
    return restore_split(request, own)


def restore_split(request: DataRequest, provenance: Mapping[str, str]) -> DataRequest:
    """Return the request with the protocol, fold and seed in the provenance of a bundle."""
    fold = int(provenance["split_fold"]) if provenance["split_fold"] else None
    return replace(request, protocol=provenance["split_protocol"], fold=fold, seed=int(provenance["split_seed"]))
