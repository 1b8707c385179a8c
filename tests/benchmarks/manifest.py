"""How long a manifest of a million utterances takes: load, filter, split, fingerprint; and how much memory.

    python -m tests.benchmarks.manifest [--json] [--rows N] [--publish]

Floor: a row is about 250 bytes, so 250 MB to read and as much again for a filtered copy; sorting a million ids takes
about a second. Target: 10 s and 2 GB for everything.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from ser_platform.corpora.manifest import SCHEMA, Manifest
from ser_platform.corpora.splits.protocols import make_splits
from ser_platform.emotions import SEVEN, LabelRules

RUNS, SPEAKERS, TARGET_S, TARGET_GB = 3, 5_000, 10.0, 2.0


def make(path: Path, rows: int) -> None:
    """Write a made manifest: 5,000 speakers of both sexes, eight emotions, every column that is usual."""
    rng = np.random.default_rng(0)
    speaker = rng.integers(0, SPEAKERS, rows)
    numbers = np.arange(rows)
    digest = rng.integers(0, 2**63, (rows, 4))
    columns: dict[str, Any] = {
        "id": [f"{s:05d}/{n:07d}" for s, n in zip(speaker, numbers, strict=True)],
        "path": [f"/speech/made/speaker-{s:05d}/{n:07d}.wav" for s, n in zip(speaker, numbers, strict=True)],
        "corpus": ["made"] * rows,
        "speaker": [f"made-{s:05d}" for s in speaker],
        "emotion": np.array([*SEVEN, "boredom"])[rng.integers(0, 8, rows)].tolist(),
        "sex": np.array(["female", "male"])[speaker % 2].tolist(),
        "language": ["en"] * rows,
        "sentence": [f"{n % 997:03d}" for n in numbers],
        "duration_s": rng.uniform(1, 6, rows),
        "audio_sha256": ["".join(f"{word:016x}" for word in row) for row in digest],
    }
    fields = pa.schema([SCHEMA.field(name) for name in columns])
    pyarrow.parquet.write_table(pa.table(columns, schema=fields), path)


def work(path: Path) -> dict[str, float]:
    """Load, filter, split three ways and fingerprint; return seconds of each and the peak of memory in GB."""
    seconds: dict[str, float] = {}

    def timed(name: str, step: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = step()
        seconds[name] = time.perf_counter() - began
        return result

    manifest = timed("load and validate", lambda: Manifest(pyarrow.parquet.read_table(path)))
    rules = LabelRules.parse("7")
    filtered = timed("filter by labels", lambda: manifest.relabel(rules.map_emotions([manifest.labels])))
    split = timed("split by speaker", lambda: make_splits(filtered, "speaker")[0])
    folds = timed("5 folds by speaker", lambda: make_splits(filtered, "speaker_kfold:5"))
    timed("fingerprints", lambda: (split.fingerprint, split.test_fingerprint))
    assert len(folds) == 5 and len(split.manifest) < len(manifest)
    seconds["all"] = sum(seconds.values())
    seconds["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the JSON only")
    parser.add_argument("--publish", action="store_true", help="write tests/benchmarks/results/manifest.json")
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.parquet"
        make(path, options.rows)
        runs = []
        for _ in range(RUNS):  # each in a fresh process, so that its memory is its own
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                runs.append(pool.apply(work, (path,)))
        megabytes = path.stat().st_size / 1e6
    figures = {name: median(run[name] for run in runs) for name in runs[0]}
    result = {"rows": options.rows, "parquet_mb": round(megabytes, 1), "runs": RUNS} | {
        name.replace(" ", "_"): round(value, 3) for name, value in figures.items()
    }
    result |= {"target_s": TARGET_S, "target_gb": TARGET_GB}
    if not options.json:
        print(f"{options.rows:,} utterances, {megabytes:.0f} MB of Parquet, median of {RUNS} runs")
        for name, value in figures.items():
            print(f"  {name:<20} {value:8.2f} {'GB' if name == 'peak_gb' else 's'}")
    if options.publish:
        (Path(__file__).parent / "results" / "manifest.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
