"""Datasets: a requested corpus is read, checked, extracted and split by a protocol."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ser_platform.corpora.audio.reader import SAMPLE_RATE, read_audio
from ser_platform.corpora.corpus_lookup import CorpusRequest, read_requested_speech
from ser_platform.corpora.manifest import Manifest
from ser_platform.corpora.splits.protocols import make_splits, parse_named_corpora
from ser_platform.corpora.splits.split import Split, combine_protocol_stamps
from ser_platform.errors import BadAudio, UserError
from ser_platform.features.families import FAMILIES
from ser_platform.features.families.computation import describe_empty_bands
from ser_platform.features.families.encoded import is_encoder_family_name
from ser_platform.features.store.extraction import JobMapper, map_on_this_machine
from ser_platform.features.store.feature_store import prepare_features
from ser_platform.progress import Display, format_count

# The shipped search spaces and the baseline choose from these.
DEFAULT_FEATURE_SETS = ("log_mel", "mfcc", "zcr", "rms", "waveform")


@dataclass(frozen=True)
class DataRequest:
    """The requested speech, its label rules and its split.

    Attributes:
        speech: the corpora and how to read them.
        protocol: see `corpora.splits.protocols`.
        fold: number of one fold of the protocol, from 1; None takes all folds.
        seed: seed of the random choices of the protocol.
        allow_leaky_split: whether a split may leak; results are then stamped permanently.
        max_bad: largest share of unusable files, in [0, 1].
    """

    speech: CorpusRequest
    protocol: str = "speaker"
    fold: int | None = None
    seed: int = 0
    allow_leaky_split: bool = False
    max_bad: float = 0.05

    def with_labels(self, labels: str) -> "DataRequest":
        """Return the request with other label rules."""
        return replace(self, speech=replace(self.speech, labels=labels))

    def as_json(self) -> dict[str, Any]:
        """Return the request as JSON values; `from_json` reads them."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "DataRequest":
        """Return the request that `as_json` wrote."""
        return cls(**{**content, "speech": CorpusRequest(**content["speech"])})


@dataclass(frozen=True)
class Dataset:
    """The prepared clips of one corpus or several, with one split, or one split per fold; `speech` reads them again."""

    name: str
    splits: tuple[Split, ...]
    speech: CorpusRequest

    @property
    def split(self) -> Split:
        """The only split.

        Raises:
            UserError: there are several folds.
        """
        if len(self.splits) > 1:
            raise UserError(
                f"protocol {self.splits[0].protocol!r} makes {len(self.splits)} folds; choose one with --fold"
            )
        return self.splits[0]

    @property
    def manifest(self) -> Manifest:
        return self.splits[0].manifest

    @property
    def hashes(self) -> tuple[str, ...]:
        """Audio digests of the clips, in the order of the manifest."""
        return tuple(self.manifest.column("audio_sha256"))

    @property
    def labels(self) -> tuple[str, ...]:
        return self.manifest.labels


@dataclass(frozen=True)
class PreparedSpeech:
    """The clips of a request with stored features, not split; `n_decoded` counts those decoded by this call."""

    name: str
    manifest: Manifest
    n_decoded: int
    elapsed_s: float


def prepare_dataset(
    request: DataRequest,
    display: Display,
    *,
    require_one_split: bool = False,
    names: Iterable[str] = DEFAULT_FEATURE_SETS,
    mapper: JobMapper = map_on_this_machine,
    dtype: str = "float32",
) -> Dataset:
    """Read, check, extract and split the requested speech; print a summary.

    Args:
        request: the speech and its split.
        display: prints progress and notes.
        require_one_split: refuse a protocol of several folds where no fold is chosen.
        names: feature families to store for every clip.
        mapper: runs the extraction.
        dtype: dtype of the stored features.

    Raises:
        UserError: the request cannot be met; raised before extraction where possible.
    """

    def check(name: str, manifest: Manifest) -> None:
        # Labels and speakers are checked before hours of decoding; the same audio in two parts is found only after it.
        if len(manifest.labels) < 2:
            raise UserError(f"{name} has one emotion ({', '.join(manifest.labels)}): at least two are needed")
        planned = Dataset(name, tuple(make_folds(manifest, request)), request.speech)
        if require_one_split:
            _ = planned.split

    speech = prepare_speech(request, display, check, names, mapper, dtype)
    splits = make_folds(speech.manifest, request)
    display.print_line(
        f"{_describe_dataset(speech.name, splits)}; {speech.n_decoded} files decoded in {speech.elapsed_s:.1f} s"
    )
    for split in splits:
        for gap in split.missing_emotions:
            where = f"fold {split.fold}: " if split.fold else ""
            display.print_line(f"note: {where}{gap}; UAR is over the classes that are present")
    return Dataset(speech.name, tuple(splits), request.speech.with_absolute_paths())


def prepare_speech(
    request: DataRequest,
    display: Display,
    check: Callable[[str, Manifest], None] = lambda name, manifest: None,
    names: Iterable[str] = DEFAULT_FEATURE_SETS,
    mapper: JobMapper = map_on_this_machine,
    dtype: str = "float32",
) -> PreparedSpeech:
    """Read, check and extract the requested speech; `check` may refuse the manifest before extraction.

    Raises:
        UserError: the request cannot be met.
    """
    began = time.monotonic()
    corpus = request.speech.corpus or parse_named_corpora(request.protocol)
    if not corpus:
        raise UserError("no corpus is given; name one with --corpus NAME_OR_PATH")
    speech = read_requested_speech(replace(request.speech, corpus=corpus))
    for note in speech.notes:
        display.print_line(f"note: {note}")
    check(speech.name, speech.manifest)
    with display.show_progress(f"{speech.name}: files {_describe_work(names)}") as count:
        prepared = prepare_features(speech.manifest, names, request.max_bad, count, dtype=dtype, mapper=mapper)
    for bad in prepared.unusable:
        display.print_line(f"set aside: {bad}")
    for warning in _find_empty_bands(prepared.manifest, names):
        display.print_line(f"note: {warning}")
    return PreparedSpeech(speech.name, prepared.manifest, prepared.n_decoded, time.monotonic() - began)


def _find_empty_bands(manifest: Manifest, names: Iterable[str]) -> Iterator[str]:
    """Yield a warning per corpus for each family with bands above the highest frequency of the corpus's first clip."""
    families = [FAMILIES[name] for name in names]
    if all(describe_empty_bands(family, SAMPLE_RATE) is None for family in families):
        return
    codes, corpora = manifest.encode_column("corpus")
    for number, corpus in enumerate(corpora):
        (first,) = manifest.take(np.flatnonzero(codes == number)[:1])
        with contextlib.suppress(BadAudio):  # the file was removed after extraction; its features are stored
            rate = read_audio(first.path, first.start_s, first.end_s).sample_rate
            warnings = (describe_empty_bands(family, rate) for family in families)
            yield from (f"{corpus}: {warning}" for warning in warnings if warning)


def _describe_work(names: Iterable[str]) -> str:
    """Return the slow steps of computing these families, for the progress line."""
    encoders = sorted({name.partition("@")[0] for name in names if is_encoder_family_name(name)})
    return f"decoded and encoded by {' and '.join(encoders)}" if encoders else "decoded"


def add_features(dataset: Dataset, names: Iterable[str], dtype: str, display: Display) -> None:
    """Store more feature families of a dataset's clips."""
    with display.show_progress(f"{dataset.name}: files {_describe_work(names)}") as count:
        prepare_features(dataset.manifest, names, 0.0, count, dtype=dtype)


def make_folds(manifest: Manifest, request: DataRequest) -> list[Split]:
    """Return the requested splits: all folds, or the chosen one.

    Raises:
        UserError: there is no such split.
    """
    splits = make_splits(manifest, request.protocol, request.seed, request.allow_leaky_split)
    if request.fold is None:
        return splits
    if not 1 <= request.fold <= len(splits):
        has = f"makes folds 1 to {len(splits)}" if len(splits) > 1 else "makes one split, without folds"
        raise UserError(f"--fold {request.fold}: protocol {request.protocol!r} {has}")
    return [splits[request.fold - 1]]


def _describe_dataset(name: str, splits: list[Split]) -> str:
    first = splits[0]
    text = f"{name}: {len(first.manifest)} clips, {len(first.manifest.labels)} emotions; protocol "
    if len(splits) > 1:
        return text + f"{combine_protocol_stamps(splits)}, {len(first.manifest.speakers)} speakers"
    counts = ", ".join(f"{part} {format_count(len(first.speakers(part)), 'speaker')}" for part in first.parts)
    return f"{text}{first.protocol_stamp}; {counts}"
