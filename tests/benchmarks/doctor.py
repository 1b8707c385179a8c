"""How fast the doctor listens and compares, on one core.

    python -m tests.benchmarks.doctor [--json] [--publish] [--runs N] [--clips N]

Floor of one clip: decode it, SHA-256 of its samples (4 bytes each), one STFT of 10 ms hop. Of each format, a clip of
3 s is measured whole: decoding, refusals, hash, level, pauses, fingerprint. Then the fingerprints of `--clips` clips,
one in a hundred of which is a near copy of another, are compared.
"""

import argparse
import hashlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.fft
import soundfile
from numpy.lib.stride_tricks import sliding_window_view

from ser_platform.corpora.doctor.fingerprints import Fingerprint, find_near_duplicates
from ser_platform.corpora.doctor.measurements import measure

SECONDS = 3.0
FORMATS = ((16_000, "wav"), (16_000, "flac"), (16_000, "ogg"), (48_000, "wav"), (48_000, "flac"))
FRAMES = 160  # of a fingerprint; a clip of 2.5 s
CHANGED = 4  # bits from one frame to the next: frames overlap
WRONG = 0.03  # share of bits in a near copy


def noise(sample_rate: int) -> np.ndarray:
    """Return `SECONDS` of noise that swells and falls like syllables."""
    n_samples = int(SECONDS * sample_rate)
    swell = np.sin(np.pi * 4 * np.arange(n_samples) / sample_rate) ** 2
    return np.random.default_rng(0).normal(0, 0.1, n_samples) * swell


def milliseconds(work: Callable[[], object], runs: int) -> float:
    """Return the median time of `work` after a warm-up."""
    times = []
    for run in range(runs + 5):
        began = time.perf_counter()
        work()
        if run >= 5:
            times.append(1000 * (time.perf_counter() - began))
    return float(np.median(times))


def stft(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the power of 25 ms frames every 10 ms."""
    frames = sliding_window_view(samples, sample_rate // 40)[:: sample_rate // 100]
    spectrum = scipy.fft.rfft(frames * np.hanning(frames.shape[1]).astype(np.float32), axis=1)
    return spectrum.real**2 + spectrum.imag**2


def clip_row(sample_rate: int, suffix: str, folder: Path, runs: int) -> dict[str, object]:
    """Time one format: the parts of the floor, and the whole measurement."""
    path = folder / f"clip-{sample_rate}.{suffix}"
    soundfile.write(path, noise(sample_rate), sample_rate)
    samples, _ = soundfile.read(path, dtype="float32")
    decode = milliseconds(lambda: soundfile.read(path, dtype="float32"), runs)
    digest = milliseconds(lambda: hashlib.sha256(samples.data).hexdigest(), runs)
    spectrum = milliseconds(lambda: stft(samples, sample_rate), runs)
    whole = milliseconds(lambda: measure(path), runs)
    return {
        "format": f"{sample_rate} Hz {suffix}",
        "decode_ms": round(decode, 3),
        "sha256_ms": round(digest, 3),
        "stft_ms": round(spectrum, 3),
        "floor_ms": round(decode + digest + spectrum, 3),
        "measure_ms": round(whole, 3),
        "clips_per_s": round(1000 / whole),
    }


def prints(clips: int) -> list[Fingerprint]:
    """Return made fingerprints whose words wander like those of overlapping frames; every hundredth is a near copy."""
    rng = np.random.default_rng(0)
    made = []
    loud = np.ones(FRAMES, np.bool_)
    for number in range(clips):
        if number % 100 == 99:
            wrong = (rng.random((FRAMES, 32)) < WRONG) @ (1 << np.arange(32, dtype=np.uint64))
            words = made[number - 50].words ^ wrong.astype(np.uint32)
        else:
            steps = np.uint32(1) << rng.integers(0, 32, (FRAMES, CHANGED), dtype=np.uint32)
            steps[0] = rng.integers(0, 1 << 32, CHANGED, dtype=np.uint32)
            words = np.bitwise_xor.accumulate(np.bitwise_xor.reduce(steps, axis=1))
        made.append(Fingerprint(words, words ^ (np.uint32(1) << rng.integers(0, 32, FRAMES, dtype=np.uint32)), loud))
    return made


def compare(clips: int) -> dict[str, object]:
    """Time the search for near copies among many clips, and count those found."""
    made = prints(clips)
    began = time.perf_counter()
    found = find_near_duplicates(made)
    seconds = time.perf_counter() - began
    right = sum(pair.second % 100 == 99 and pair.first == pair.second - 50 for pair in found)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {
        "clips": clips,
        "seconds": round(seconds, 2),
        "pairs": len(found),
        "recall": round(right / max(clips // 100, 1), 4),
        "wrong": len(found) - right,
        "peak_memory_gb": round(memory / 1e9, 2),
    }


def main() -> None:
    """Time everything and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--publish", action="store_true", help="write tests/benchmarks/results/doctor.json")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--clips", type=int, default=20_000)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as scratch:
        rows = [clip_row(rate, suffix, Path(scratch), options.runs) for rate, suffix in FORMATS]
    compared = compare(options.clips)
    if not options.json:
        for row in rows:
            print(
                f"{row['format']:<14} decode {row['decode_ms']:5.2f}  SHA-256 {row['sha256_ms']:5.2f}"
                f"  STFT {row['stft_ms']:5.2f}  floor {row['floor_ms']:5.2f} ms   measured {row['measure_ms']:5.2f} ms"
                f"  {row['clips_per_s']:5d} clips/s"
            )
        print(f"{compared['clips']} fingerprints compared in {compared['seconds']} s, {compared['pairs']} near copies")
    result = {"clips_per_s": rows[0]["clips_per_s"], "seconds": SECONDS, "rows": rows, "compare": compared}
    if options.publish:
        (Path(__file__).parent / "results" / "doctor.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
