"""Preparing a corpus: clips a second on one core and on all, what a kill costs, and how soon a trial has a batch.

    python -m tests.benchmarks.prepare [--json] [--clips N] [--publish]

Floor of one 3 s clip: 96 kB read, SHA-256 of 192 kB, one STFT of 300 frames, about 400 kB of features written. The kill
is SIGKILL to the whole process group once half of the clips are done; the next run may decode again only what was done
in the last seconds before it.

`first_batch_ms` (RAVDESS speech, 1,440 clips; where SER_CORPORA is set) is what a trial waits for its first batch of 32
clips, normaliser fitted: `first` in a process that has not opened the features, `next` with other sets and durations in
a process that has opened them before. Target: 50 ms, `within_target`.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from ser_platform.features.store.shard import ShardRecord

SAMPLE_RATE, SECONDS, SPEAKERS = 16_000, 3.0, 20
TARGET_MS, BATCH, TRIALS = 50.0, 32, 5
SETS = ("log_mel", "mfcc", "zcr", "rms")
COMMAND = [sys.executable, "-c", "from ser_platform.cli import main; main()", "corpora", "prepare"]


def make(folder: Path, clips: int) -> None:
    """Write clips of noise under RAVDESS names, which hold everything that a split needs."""
    rng = np.random.default_rng(0)
    for number in range(clips):
        speaker, emotion, take = number % SPEAKERS + 1, number // SPEAKERS % 8 + 1, number // SPEAKERS // 8
        name = f"03-01-{emotion:02}-01-{take // 100:02}-{take % 100:02}-{speaker:02}.wav"
        noise = rng.integers(-2000, 2000, int(SECONDS * SAMPLE_RATE), dtype=np.int16)
        soundfile.write(folder / name, noise, SAMPLE_RATE)


@contextmanager
def preparing(corpus: Path, home: Path, cores: int) -> Iterator[subprocess.Popen[str]]:
    """Run `ser corpora prepare` on so many cores in a process group of its own."""
    environment = os.environ | {"SER_HOME": str(home)}
    affinity = set(sorted(os.sched_getaffinity(0))[:cores])
    process = subprocess.Popen(
        [*COMMAND, str(corpus)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: os.sched_setaffinity(0, affinity),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def decoded(text: str) -> int:
    """Return how many files a finished run reports as decoded."""
    return next(int(line.rsplit("; ", 1)[1].split()[0]) for line in text.splitlines() if "files decoded in" in line)


def prepare(corpus: Path, home: Path, cores: int) -> tuple[float, int]:
    """Return the seconds of a whole run and how many files it decoded."""
    began = time.perf_counter()
    with preparing(corpus, home, cores) as process:
        text, _ = process.communicate()
        assert process.returncode == 0, text
    return time.perf_counter() - began, decoded(text)


def stored(home: Path) -> int:
    """Return how many clips one family holds."""
    records = [ShardRecord.read(path) for path in (home / "features").glob("log_mel*/*.json")]
    return sum(record.n_clips for record in records if record is not None)


def kill_half_way(corpus: Path, home: Path, clips: int) -> int:
    """Kill a run once half of the clips are stored; return how many were."""
    with preparing(corpus, home, os.cpu_count() or 1):
        while stored(home) < clips // 2:
            time.sleep(0.2)
    return stored(home)


def first_batches() -> dict[str, float]:
    """Return the milliseconds to the first batch of the first trial of a process and, the median, of others."""
    from ser_platform.corpora.corpus_lookup import find_corpus
    from ser_platform.features.store.feature_store import open_family
    from ser_platform.features.store.feature_store import prepare_features as store

    manifest = store(find_corpus("ravdess").read_manifest()[0], SETS).manifest
    hashes, train = tuple(manifest.column("audio_sha256")), np.arange(0, len(manifest), 2)
    first_batch(hashes, train, SETS, 3.0)  # the files are in memory, as a study's driver has just read them
    open_family.cache_clear()
    first = first_batch(hashes, train, SETS, 3.0)
    others = [first_batch(hashes, train, SETS[: 1 + n % len(SETS)], 1.5 + n / 2) for n in range(TRIALS)]
    return {"first": round(first, 1), "next": round(float(np.median(others)), 1), "clips": len(manifest)}


def first_batch(hashes: tuple[str, ...], train: NDArray[np.int64], sets: tuple[str, ...], seconds: float) -> float:
    """Return the milliseconds from the start of a trial to its first batch."""
    from ser_platform.features.views.view import FeatureView
    from ser_platform.features.views.viewed_clips import StoredViewedClips
    from ser_platform.training.batches.batch import shuffle_into_batches

    began = time.perf_counter()
    features = StoredViewedClips(FeatureView(sets, n_mfcc=20, max_seconds=seconds, crop="centre"), hashes)
    normaliser = features.fit_normaliser(train)
    features.batch(shuffle_into_batches(train, features.lengths, BATCH, np.random.default_rng(0))[0], normaliser)
    return 1000 * (time.perf_counter() - began)


def in_own_home(root: Path) -> dict[str, float]:
    """Measure the first batches in another process, with a store of its own."""
    script = "import json; from tests.benchmarks.prepare import first_batches; print(json.dumps(first_batches()))"
    environment = os.environ | {"SER_HOME": str(root / "ravdess")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--publish", action="store_true", help="write tests/benchmarks/results/prepare.json")
    parser.add_argument("--clips", type=int, default=4000)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    result: dict[str, Any] = {"clips": options.clips, "seconds_a_clip": SECONDS, "cores": cores}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "corpus").mkdir()
        make(root / "corpus", options.clips)
        one, _ = prepare(root / "corpus", root / "one", 1)
        everything, _ = prepare(root / "corpus", root / "all", cores)
        again, none = prepare(root / "corpus", root / "all", cores)
        before = kill_half_way(root / "corpus", root / "killed", options.clips)
        _, after = prepare(root / "corpus", root / "killed", cores)
        if os.environ.get("SER_CORPORA"):
            batches = in_own_home(root)
            result |= {"first_batch_ms": batches, "within_target": max(batches["first"], batches["next"]) <= TARGET_MS}
    assert none == 0
    result |= {
        "one_core_s": round(one, 2),
        "all_cores_s": round(everything, 2),
        "speedup": round(one / everything, 2),
        "clips_per_s": round(options.clips / everything, 1),
        "unchanged_s": round(again, 2),
        "stored_when_killed": before,
        "decoded_after_kill": after,
        "decoded_again": before + after - options.clips,
    }
    if not options.json:
        for name, value in result.items():
            print(f"{name:<20} {value}")
    if options.publish:
        (Path(__file__).parent / "results" / "prepare.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
