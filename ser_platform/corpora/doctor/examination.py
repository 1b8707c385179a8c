"""Collects and measures the files of a corpus, and groups the clips that are one recording.

Files that cannot be used are not an error here: each is kept with its reason, for a finding about it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ser_platform.corpora.corpus_lookup import CORPUS_SEPARATOR, CorpusRequest, FoundCorpus, find_corpora
from ser_platform.corpora.doctor.fingerprints import Fingerprint
from ser_platform.corpora.doctor.measurements import ClipMeasurements, measure
from ser_platform.corpora.doctor.recordings import Recording, group_recordings
from ser_platform.corpora.facts import ExcludedFile, Misfit
from ser_platform.corpora.manifest import Manifest, Utterance
from ser_platform.corpora.splits.protocols import make_splits
from ser_platform.corpora.splits.split import Split
from ser_platform.emotions import LabelRules
from ser_platform.errors import BadAudio, CorpusError, UserError
from ser_platform.process_pool import start_process_pool
from ser_platform.settings import slots

CLIPS_PER_CHUNK = 32  # clips that a process measures before it returns; Ctrl-C waits for them
MIN_POOL_CLIPS = 800  # clips; below, starting processes costs more than it gains

Progress = Callable[[int, int], None]
Outcome = tuple[ClipMeasurements, Fingerprint] | BadAudio


@dataclass(frozen=True)
class RejectedFile:
    """A file that cannot be used: its path within the corpus, or its id, and the reason."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True)
class CollectedFiles:
    """The files of a request before any is decoded. `label_changes` lists what the rules for labels merge or drop."""

    name: str
    roots: tuple[Path, ...]
    manifest: Manifest
    misfits: tuple[RejectedFile, ...]
    repeated_ids: tuple[RejectedFile, ...]
    exclusions: Counter[str]
    label_changes: tuple[str, ...]


@dataclass(frozen=True)
class Examination:
    """A measured corpus.

    Attributes:
        collected: the files; its manifest includes the unreadable ones.
        manifest: the clips that can be used, with durations and audio digests.
        measures: the measurements of these clips, in the order of `manifest`.
        unreadable: the other clips, by id.
        recordings: groups of clips that are one recording, as rows of `manifest`.
        split: the default split by speaker, None where the speakers allow none.
        no_split_reason: why there is no split.
    """

    collected: CollectedFiles
    manifest: Manifest
    measures: tuple[ClipMeasurements, ...]
    unreadable: tuple[RejectedFile, ...]
    recordings: tuple[Recording, ...]
    split: Split | None
    no_split_reason: str


def examine(
    request: CorpusRequest, seed: int = 0, jobs: int | None = None, progress: Progress | None = None
) -> Examination:
    """Find, read, measure and compare the clips of a request.

    Args:
        request: the corpora to examine.
        seed: seed of the default split.
        jobs: number of processes; one per core by default.
        progress: called with the number of clips done and of all clips.

    Raises:
        UserError: a corpus is unknown, missing or without audio.
    """
    collected = collect_files(request)
    outcomes = measure_clips(list(collected.manifest), jobs or slots(), progress)
    good = {row: outcome for row, outcome in enumerate(outcomes) if not isinstance(outcome, BadAudio)}
    named = zip(collected.manifest.column("id"), outcomes, strict=True)
    unreadable = tuple(RejectedFile(name, bad.reason) for name, bad in named if isinstance(bad, BadAudio))
    measures = tuple(clip for clip, _ in good.values())
    manifest = collected.manifest.take(np.array(list(good), dtype=np.int64))
    split, no_split = _make_default_split(manifest, seed)  # before the digests are known: a split refuses copies
    manifest = manifest.with_column("duration_s", [clip.seconds for clip in measures])
    manifest = manifest.with_column("audio_sha256", [clip.sha256 for clip in measures])
    same = group_recordings([clip.sha256 for clip in measures], [fingerprint for _, fingerprint in good.values()])
    return Examination(collected, manifest, measures, unreadable, same, split, no_split)


def collect_files(request: CorpusRequest) -> CollectedFiles:
    """Find the corpora of a request and read the speaker and emotion of each file.

    Raises:
        UserError: a corpus is unknown, missing or without audio, or the rules for labels leave nothing.
    """
    rules = LabelRules.parse(request.labels)
    found = find_corpora(request)
    manifests: list[Manifest] = []
    misfits: list[RejectedFile] = []
    repeated: list[RejectedFile] = []
    left_out: Counter[str] = Counter()
    for corpus in found:
        utterances: dict[str, Utterance] = {}
        for entry in corpus.read_entries():
            if isinstance(entry, Misfit):
                misfits.append(RejectedFile(_format_path(corpus, entry.path, len(found)), entry.reason))
            elif isinstance(entry, ExcludedFile):
                left_out[entry.reason] += 1
            elif entry.id in utterances:
                first = _format_path(corpus, utterances[entry.id].path, len(found))
                repeated.append(RejectedFile(_format_path(corpus, entry.path, len(found)), f"has the id of {first}"))
            else:
                utterances[entry.id] = entry
        manifests.append(Manifest.from_utterances(utterances.values()))
    if not misfits and not any(map(len, manifests)):
        raise CorpusError("; ".join(f"{corpus.root} holds no audio of {corpus.adapter_name}" for corpus in found))
    joined = manifests[0] if len(manifests) == 1 else Manifest.join(manifests)
    joined, changed = _relabel(joined, rules, manifests)
    name = CORPUS_SEPARATOR.join(corpus.corpus_name for corpus in found)
    roots = tuple(corpus.root for corpus in found)
    return CollectedFiles(name, roots, joined, tuple(misfits), tuple(repeated), left_out, changed)


def _format_path(corpus: FoundCorpus, path: Path, n_corpora: int) -> str:
    name = path.relative_to(corpus.root).as_posix() if path.is_relative_to(corpus.root) else str(path)
    return f"{corpus.corpus_name}/{name}" if n_corpora > 1 else name


def _relabel(joined: Manifest, rules: LabelRules, manifests: Sequence[Manifest]) -> tuple[Manifest, tuple[str, ...]]:
    mapping = rules.map_emotions(manifest.labels for manifest in manifests)
    emotions = Counter(joined.column("emotion"))
    changed = tuple(
        f"{emotion} dropped ({emotions[emotion]} clips)" if label is None else f"{emotion} counts as {label}"
        for emotion, label in mapping.items()
        if label != emotion
    )
    return (joined.relabel(mapping) if changed else joined), changed


def _make_default_split(manifest: Manifest, seed: int) -> tuple[Split | None, str]:
    try:
        return make_splits(manifest, "speaker", seed)[0], ""
    except UserError as error:
        return None, str(error)


def measure_clips(utterances: Sequence[Utterance], jobs: int, progress: Progress | None = None) -> list[Outcome]:
    """Return the measurements of clips, in their order, or the error for a clip that cannot be used."""
    clips = [(utterance.path, utterance.start_s, utterance.end_s) for utterance in utterances]
    chunks = [clips[first : first + CLIPS_PER_CHUNK] for first in range(0, len(clips), CLIPS_PER_CHUNK)]
    outcomes: list[list[Outcome]] = [[] for _ in chunks]
    done = 0
    for number, part in (
        _measure_in_pool(chunks, jobs)
        if jobs > 1 and len(clips) >= MIN_POOL_CLIPS
        else enumerate(map(measure_chunk, chunks))
    ):
        outcomes[number] = part
        done += len(part)
        if progress:
            progress(done, len(clips))
    return [outcome for part in outcomes for outcome in part]


_Chunk = list[tuple[Path, float | None, float | None]]


def _measure_in_pool(chunks: Sequence[_Chunk], jobs: int) -> Iterator[tuple[int, list[Outcome]]]:
    pool = start_process_pool(min(jobs, len(chunks)), __name__)
    try:
        futures = {pool.submit(measure_chunk, chunk): number for number, chunk in enumerate(chunks)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)  # on Ctrl-C this waits for the running chunks only


def measure_chunk(chunk: _Chunk) -> list[Outcome]:
    """Measure some clips, one after the other; a process of the pool runs this."""
    outcomes: list[Outcome] = []
    for path, start_s, end_s in chunk:
        try:
            outcomes.append(measure(path, start_s, end_s))
        except BadAudio as bad:
            outcomes.append(bad)
    return outcomes
