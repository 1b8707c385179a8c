"""Extraction: a job of some clips in, parts in the store and a word on each clip out.

`extract` is a plain function of a job, and a job is small and can be sent anywhere; what maps it over jobs is passed to
the store. On one machine that is `map_on_this_machine`; a cluster has a mapper of its own, and there the folder of the
job must lie on storage that all nodes share.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

from ser_platform.corpora.audio.reader import Audio, read_audio
from ser_platform.errors import BadAudio
from ser_platform.features.augmentation.recipes import RECIPES
from ser_platform.features.families import FAMILIES
from ser_platform.features.families.computation import compute_features, family_cache_key, family_label
from ser_platform.features.store.index import DecodedClip
from ser_platform.features.store.locks import hold_read_lock
from ser_platform.features.store.shard import StoredClip, list_intact_shards, write_shard
from ser_platform.process_pool import start_process_pool
from ser_platform.settings import slots
from ser_platform.torch_threads import limit_to_one_thread

CLIPS_PER_JOB = 64
# Seconds until processes stand ready: the fork server imports torch once, the processes are copies of it. Each imports
# the program's own main module again, which for `ser` is nothing, for a script whatever it imports.
POOL_STARTS_S = 3.0


@dataclass(frozen=True)
class ClipSource:
    """Where a clip's audio is, and which copy of it is meant: 0 is the clip itself."""

    path: str
    start_s: float | None
    end_s: float | None
    recipe: str = ""
    copy_index: int = 0

    def read(self) -> Audio:
        """Return the audio.

        Raises:
            BadAudio: there is none that can be used.
        """
        audio = read_audio(Path(self.path), self.start_s, self.end_s)
        return RECIPES[self.recipe].make_copy(audio, self.copy_index) if self.copy_index else audio


@dataclass(frozen=True)
class ExtractionJob:
    """Clips to decode and the families to store of each, as `dtype` under `root`.

    `first_clip` is the place of its first clip among all. `run_id` names the call that made the job: what was stored
    before that is not computed again.
    """

    first_clip: int
    clips: tuple[ClipSource, ...]
    names: tuple[str, ...]
    dtype: str
    root: Path
    run_id: str


@dataclass(frozen=True)
class ExtractionResult:
    """What became of the clips of a job, in their order; `first_clip` as in the job."""

    first_clip: int
    outcomes: tuple[DecodedClip | BadAudio, ...]


JobMapper = Callable[[Sequence[ExtractionJob]], Iterator[ExtractionResult]]  # results in any order


def family_folder(root: Path, name: str, dtype: str) -> Path:
    """Return the folder of a family: its name, and the digest of all that its numbers depend on."""
    return root / f"{family_cache_key(name, FAMILIES[name])}-{dtype}"


def make_jobs(sources: Sequence[ClipSource], names: Sequence[str], dtype: str, root: Path) -> list[ExtractionJob]:
    """Deal clips into jobs."""
    run = uuid.uuid4().hex
    return [
        ExtractionJob(first, tuple(sources[first : first + CLIPS_PER_JOB]), tuple(names), dtype, root, run)
        for first in range(0, len(sources), CLIPS_PER_JOB)
    ]


def extract(job: ExtractionJob) -> ExtractionResult:
    """Decode the clips of a job, each once, and store the families that are not stored yet."""
    with limit_to_one_thread():  # a clip is too short to share: threads that wait for each other cost more
        fresh, outcomes = _compute_missing(job)
    for name, clips in fresh.items():
        if clips:
            write_shard(family_folder(job.root, name, job.dtype), describe_family(name), list(clips.values()))
    return ExtractionResult(job.first_clip, tuple(outcomes))


def _compute_missing(job: ExtractionJob) -> tuple[dict[str, dict[bytes, StoredClip]], list[DecodedClip | BadAudio]]:
    """Return what is to be stored of each family, by digest, and what became of each clip."""
    fresh: dict[str, dict[bytes, StoredClip]] = {name: {} for name in job.names}
    outcomes: list[DecodedClip | BadAudio] = []
    for source in job.clips:
        try:
            audio = source.read()
        except BadAudio as bad:
            outcomes.append(bad)
            continue
        digest = bytes.fromhex(audio.sha256)
        wanted = [name for name in job.names if digest not in fresh[name] and digest not in _find_stored(job, name)]
        for name, values in compute_features(audio, wanted, FAMILIES).items():
            fresh[name][digest] = StoredClip.from_features(digest, values, job.dtype)
        outcomes.append(DecodedClip(audio.sha256, audio.duration_s))
    return fresh, outcomes


def describe_family(name: str) -> dict[str, object]:
    """Return what a part says of its family."""
    family = FAMILIES[name]
    parameters = asdict(family)  # type: ignore[call-overload]
    kind, label = type(family).__name__, family_label(name, family)
    return {"family": label, "kind": kind, "version": family.version, "parameters": parameters}


def _find_stored(job: ExtractionJob, name: str) -> frozenset[bytes]:
    return _find_stored_before(job.run_id, family_folder(job.root, name, job.dtype))


@lru_cache(maxsize=64)
def _find_stored_before(run: str, folder: Path) -> frozenset[bytes]:
    """Return the clips in a folder; a process looks once a run. The one that asked for the job keeps them there."""
    return find_stored_digests(folder, hold_until_exit=False)


def find_stored_digests(folder: Path, hold_until_exit: bool = True) -> frozenset[bytes]:
    """Return the digests of the clips in a family's folder; with a lease, they stay as long as this process lives."""
    with hold_read_lock(folder, hold_until_exit):
        return frozenset(digest for part in list_intact_shards(folder) for digest in part.hashes)


def map_on_this_machine(jobs: Sequence[ExtractionJob], processes: int | None = None) -> Iterator[ExtractionResult]:
    """Extract in this process, and in others as soon as what is left would take longer than starting them.

    `processes` are started at once; by default one a core where that pays.
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


def make_local_mapper(processes: int | None) -> JobMapper:
    """Return the mapper over so many processes of this machine."""
    return partial(map_on_this_machine, processes=processes)


def _map_in_processes(jobs: Sequence[ExtractionJob], processes: int) -> Iterator[ExtractionResult]:
    with start_process_pool(processes, __name__) as pool:
        futures = [pool.submit(extract, job) for job in jobs]
        try:
            for job, future in zip(reversed(jobs), reversed(futures), strict=True):
                if futures[0].done():
                    break  # the processes stand ready; until then this one works from the other end
                if future.cancel():
                    yield extract(job)
            for future in as_completed(futures):
                if not future.cancelled():
                    yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
