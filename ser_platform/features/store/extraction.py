"""Extraction of features: a job of some clips writes shards and returns the outcome of each clip.

`extract` depends only on its job, and a job is small enough to be sent to other machines. A mapper runs `extract` over
jobs: `map_on_this_machine`, or that of a cluster, where the folder of the job must be on storage that all nodes share.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

from ser_platform.corpora.audio.reader import Audio, read_audio
from ser_platform.corpora.manifest import Utterance
from ser_platform.errors import BadAudio
from ser_platform.features.augmentation.recipes import RECIPES
from ser_platform.features.families import FAMILIES
from ser_platform.features.families.computation import compute_features, make_family_label
from ser_platform.features.store.folders import family_folder
from ser_platform.features.store.index import DecodedClip
from ser_platform.features.store.locks import hold_read_lock
from ser_platform.features.store.shard import StoredClip, list_intact_shards, write_shard
from ser_platform.process_pool import start_process_pool
from ser_platform.settings import slots
from ser_platform.torch_threads import limit_to_one_thread

CLIPS_PER_JOB = 64
# Seconds until worker processes are ready: the fork server imports torch once, and workers are copies of it. Each
# worker imports the main module again: nothing for `ser`, all imports of a script for a script.
POOL_STARTS_S = 3.0


@dataclass(frozen=True)
class ClipSource:
    """The audio file and segment of a clip, and a recipe and number of a copy of it; number 0 is the clip itself."""

    path: str
    start_s: float | None
    end_s: float | None
    recipe: str = ""
    copy_index: int = 0

    @classmethod
    def from_utterance(cls, utterance: Utterance, recipe: str = "", copy_index: int = 0) -> "ClipSource":
        """Return the source of an utterance, or of a copy of it."""
        return cls(str(utterance.path), utterance.start_s, utterance.end_s, recipe, copy_index)

    def read(self) -> Audio:
        """Return the audio.

        Raises:
            BadAudio: it cannot be decoded, or the copy is unusable.
        """
        audio = read_audio(Path(self.path), self.start_s, self.end_s)
        return RECIPES[self.recipe].make_copy(audio, self.copy_index) if self.copy_index else audio


@dataclass(frozen=True)
class ExtractionJob:
    """Clips to decode and the families to store of each, as `dtype` under `root`.

    `first_clip` is the index of its first clip among those of all jobs. `run_id` names the call that made the job:
    features that were stored before it are not computed again.
    """

    first_clip: int
    clips: tuple[ClipSource, ...]
    names: tuple[str, ...]
    dtype: str
    root: Path
    run_id: str

    def folder(self, name: str) -> Path:
        """Return the folder of a family."""
        return family_folder(self.root, name, self.dtype)


@dataclass(frozen=True)
class ExtractionResult:
    """The outcome of each clip of a job, in the job's order; `first_clip` as in the job."""

    first_clip: int
    outcomes: tuple[DecodedClip | BadAudio, ...]


JobMapper = Callable[[Sequence[ExtractionJob]], Iterator[ExtractionResult]]  # results in any order


def make_jobs(sources: Sequence[ClipSource], names: Sequence[str], dtype: str, root: Path) -> list[ExtractionJob]:
    """Return jobs of at most `CLIPS_PER_JOB` clips each."""
    run_id = uuid.uuid4().hex
    return [
        ExtractionJob(first, tuple(sources[first : first + CLIPS_PER_JOB]), tuple(names), dtype, root, run_id)
        for first in range(0, len(sources), CLIPS_PER_JOB)
    ]


def extract(job: ExtractionJob) -> ExtractionResult:
    """Decode each clip of a job once and store the families that are missing."""
    with limit_to_one_thread():  # for short clips, synchronising threads takes longer than it saves
        fresh, outcomes = _compute_missing(job)
    for name, clips in fresh.items():
        if clips:
            write_shard(job.folder(name), describe_family(name), list(clips.values()))
    return ExtractionResult(job.first_clip, tuple(outcomes))


def _compute_missing(job: ExtractionJob) -> tuple[dict[str, dict[bytes, StoredClip]], list[DecodedClip | BadAudio]]:
    """Return the missing features of each family by digest, and the outcome of each clip."""
    stored = {name: _find_stored_before(job.run_id, job.folder(name)) for name in job.names}
    fresh: dict[str, dict[bytes, StoredClip]] = {name: {} for name in job.names}
    outcomes: list[DecodedClip | BadAudio] = []
    for source in job.clips:
        try:
            audio = source.read()
        except BadAudio as bad:
            outcomes.append(bad)
            continue
        digest = bytes.fromhex(audio.sha256)
        missing = [name for name in job.names if digest not in fresh[name] and digest not in stored[name]]
        for name, values in compute_features(audio, missing, FAMILIES).items():
            fresh[name][digest] = StoredClip.from_features(digest, values, job.dtype)
        outcomes.append(DecodedClip(audio.sha256, audio.duration_s))
    return fresh, outcomes


def describe_family(name: str) -> dict[str, object]:
    """Return the description of a family in its shards."""
    family = FAMILIES[name]
    parameters = asdict(family)  # type: ignore[call-overload]
    kind, label = type(family).__name__, make_family_label(name, family)
    return {"family": label, "kind": kind, "version": family.version, "parameters": parameters}


@lru_cache(maxsize=64)
def _find_stored_before(run_id: str, folder: Path) -> frozenset[bytes]:
    """Return the stored clips of a family, read once per run; the process that made the job has the lease."""
    return find_stored_digests(folder, hold_until_exit=False)


def find_stored_digests(folder: Path, hold_until_exit: bool = True) -> frozenset[bytes]:
    """Return the digests of the clips in a family's folder; `hold_until_exit` as in `hold_read_lock`."""
    with hold_read_lock(folder, hold_until_exit):
        return frozenset(digest for shard in list_intact_shards(folder) for digest in shard.hashes)


def map_on_this_machine(jobs: Sequence[ExtractionJob], processes: int | None = None) -> Iterator[ExtractionResult]:
    """Extract on this machine.

    `processes` above 1 are started at once. By default, extraction starts in this process, and one process per core
    is started once the remaining work takes longer than starting them.
    """
    if processes is not None and processes > 1:
        yield from _map_in_processes(jobs, processes)
        return
    cores = slots() if processes is None else 1
    began = time.monotonic()
    for done, job in enumerate(jobs, start=1):
        yield extract(job)
        left = (time.monotonic() - began) / done * (len(jobs) - done)
        if cores > 1 and left > POOL_STARTS_S:
            yield from _map_in_processes(jobs[done:], cores)
            return


def make_local_mapper(processes: int) -> JobMapper:
    """Return the mapper over a number of processes of this machine."""
    return partial(map_on_this_machine, processes=processes)


def _map_in_processes(jobs: Sequence[ExtractionJob], processes: int) -> Iterator[ExtractionResult]:
    with start_process_pool(processes, __name__, "torchaudio") as pool:
        futures = [pool.submit(extract, job) for job in jobs]
        try:
            for job, future in zip(reversed(jobs), reversed(futures), strict=True):
                if futures[0].done():
                    break  # the workers are ready; until then this process takes jobs from the end
                if future.cancel():
                    yield extract(job)
            for future in as_completed(futures):
                if not future.cancelled():
                    yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
