"""Predictions for many files, shared among processes where that saves time."""

import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ser_platform.corpora.audio.ffmpeg import NEEDS_FFMPEG
from ser_platform.corpora.audio.reader import Audio, read_audio
from ser_platform.errors import BadAudio, MissingFfmpeg, UserError, WorkFailed
from ser_platform.inference.bundle import read_bundle
from ser_platform.inference.predictor import Prediction, Predictor
from ser_platform.process_pool import open_process_pool

POOL_STARTS_S = 1.0  # until a process has read a model, where its server has imported torch already
CHUNK_S, MAX_CHUNK_FILES = 0.25, 64  # a task of a process; short, so that the processes end at the same time
WARM_UP_FILES, TIMED_FILES = 2, 4  # the first predictions take longer; these are timed before processes are started

Progress = Callable[[int, int], None]  # files done and all files
_Outcome = Prediction | BadAudio


@dataclass(frozen=True)
class FilePool:
    """How files are shared among processes.

    Attributes:
        folder, digest: of the bundle, which each process reads and verifies.
        processes: number of processes; 1 predicts in this process.
        min_left_s: processes are started where the remaining files would take this process longer, in seconds.
    """

    folder: Path
    digest: str | None
    processes: int
    min_left_s: float = POOL_STARTS_S


def predict_files(
    predictor: Predictor,
    files: Sequence[Path],
    one_speaker: bool = False,
    pool: FilePool | None = None,
    progress: Progress | None = None,
) -> tuple[list[tuple[Path, Prediction]], list[BadAudio]]:
    """Return the prediction for each file, and the errors of files without usable speech or that
    need ffmpeg, both in the order of `files`.

    `one_speaker` states that all files are of one speaker; see `Predictor.predict_speaker`. Without `pool` all work is
    done in this process; the results are the same. `progress` is called after each file or group of files.

    Raises:
        UserError: the model normalises by speaker and `one_speaker` is not set, or the reverse; or there are too few
            different recordings.
        WorkFailed: a process of the pool ended early.
    """
    report = progress or (lambda done, n_all: None)
    if one_speaker:
        return _predict_speaker_files(predictor, files, report)
    outcomes: dict[int, _Outcome] = {}
    with closing(_predict_parts(predictor, files, pool)) as parts:  # Ctrl-C closes it, which ends the processes
        for first, part in parts:
            outcomes.update(enumerate(part, start=first))
            report(len(outcomes), len(files))
    found = [(path, outcomes[number]) for number, path in enumerate(files)]
    predictions = [(path, outcome) for path, outcome in found if isinstance(outcome, Prediction)]
    return predictions, [outcome for _, outcome in found if isinstance(outcome, BadAudio)]


def _predict_speaker_files(
    predictor: Predictor, files: Sequence[Path], report: Progress
) -> tuple[list[tuple[Path, Prediction]], list[BadAudio]]:
    predictor.require_speaker_normalisation()
    clips: list[tuple[Path, Audio]] = []
    unusable: list[BadAudio] = []
    for done, path in enumerate(files, start=1):
        try:
            clips.append((path, read_audio(path)))
        except BadAudio as bad:
            unusable.append(bad)
        except MissingFfmpeg:
            unusable.append(BadAudio(path, NEEDS_FFMPEG))
        report(done, len(files))
    try:
        found = predictor.predict_speaker([audio for _, audio in clips])
    except UserError as error:
        raise UserError("; ".join(map(str, (error, *unusable[:1])))) from error
    return [(path, prediction) for (path, _), prediction in zip(clips, found, strict=True)], unusable


def _predict_parts(
    predictor: Predictor, files: Sequence[Path], pool: FilePool | None
) -> Generator[tuple[int, list[_Outcome]], None, None]:
    """Yield outcomes of consecutive files, and the number of the first of these; each file is in one of the parts."""
    began = 0.0
    for done, path in enumerate(files, start=1):
        yield done - 1, [_predict_file(predictor, path)]
        if done == WARM_UP_FILES:
            began = time.monotonic()
        if pool is None or pool.processes < 2 or done < WARM_UP_FILES + TIMED_FILES:
            continue
        mean_s = (time.monotonic() - began) / (done - WARM_UP_FILES)
        if mean_s * (len(files) - done) > pool.min_left_s:
            size = min(max(int(CHUNK_S / mean_s), 1), MAX_CHUNK_FILES)
            starts = range(done, len(files), size)
            yield from _predict_in_processes(predictor, {n: files[n : n + size] for n in starts}, pool)
            return


def _predict_in_processes(
    predictor: Predictor, chunks: Mapping[int, Sequence[Path]], pool: FilePool
) -> Generator[tuple[int, list[_Outcome]], None, None]:
    waiting, running, are_ready = deque(chunks), dict[Future[list[_Outcome]], int](), False
    with open_process_pool(pool.processes, __name__, _load_predictor, (pool.folder, pool.digest)) as executor:
        try:
            while waiting or running:
                while waiting and len(running) < 2 * pool.processes:
                    first = waiting.popleft()
                    running[executor.submit(_predict_chunk, chunks[first])] = first
                if waiting and not are_ready:  # until the processes are, this one takes chunks from the end
                    first = waiting.pop()
                    yield first, [_predict_file(predictor, path) for path in chunks[first]]
                done = wait(running, 0 if waiting and not are_ready else None, FIRST_COMPLETED).done
                are_ready = are_ready or bool(done)
                for future in done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool as error:
            raise WorkFailed(
                f"a process that predicts ended early: the system is out of memory, or {pool.folder} was altered; "
                "predict fewer files at a time"
            ) from error


def _predict_file(predictor: Predictor, path: Path) -> _Outcome:
    try:
        return predictor.predict_file(path)
    except BadAudio as bad:
        return bad
    except MissingFfmpeg:
        return BadAudio(path, NEEDS_FFMPEG)


_predictors: list[Predictor] = []  # the one of a process of the pool


def _load_predictor(folder: Path, digest: str | None) -> None:
    _predictors[:] = [Predictor(read_bundle(folder, digest))]


def _predict_chunk(files: Sequence[Path]) -> list[_Outcome]:
    return [_predict_file(_predictors[0], path) for path in files]
