"""How fast frame features are extracted, beside librosa, on one core.

    python -m tests.benchmarks.features [--json] [--publish] [--clips N] [--runs N]

The features are those of the presets `vector184` and `frames201` together: 22,050 Hz, windows of 2048, every 512. Both
sides start from the waveform at that rate; a second pair of figures has resampling to it, which is soxr's work on both
sides, counted in. They take turns, a pass over the clips at a time, and are timed in CPU seconds of this process.
librosa is called as people call it, each feature once, from the waveform, at its defaults; and once more with a shared
spectrogram and the tuning fixed. The floor is resampling, one transform in single precision and one product with 128
mel filters: what no implementation of this kind can leave out.
"""

# ruff: noqa: E402
import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy and torch are imported

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import librosa
import numpy as np
import torch
from numpy.typing import NDArray

from ser_platform.corpora.audio.reader import Audio, list_audio_files, read_audio
from ser_platform.features.families import FEATURE_SETS
from ser_platform.features.families.analysis import LIBROSA_STFT
from ser_platform.features.families.computation import compute_features
from ser_platform.features.families.pitch import F0
from ser_platform.features.families.presets import PRESETS
from ser_platform.settings import corpora_folder

CORPORA = {"emodb": "emodb", "ravdess": "ravdess-speech"}
NAMES = ("vector184", "frames201")
FAMILIES = {name: PRESETS[name] for name in NAMES}
RATE = LIBROSA_STFT.sample_rate

Samples = NDArray[np.float32]


def by_librosa(audio: Audio) -> list[Samples]:
    """Return the features of both presets, each from the waveform."""
    y, f = audio.samples, librosa.feature
    return [
        f.mfcc(y=y, sr=RATE, n_mfcc=40),
        f.chroma_stft(y=y, sr=RATE),
        f.melspectrogram(y=y, sr=RATE),
        f.zero_crossing_rate(y),
        f.spectral_centroid(y=y, sr=RATE),
        f.spectral_rolloff(y=y, sr=RATE),
        f.spectral_bandwidth(y=y, sr=RATE),
        f.mfcc(y=y, sr=RATE, n_mfcc=50),
        f.spectral_flatness(y=y),
        f.spectral_contrast(y=y, sr=RATE),
        f.rms(y=y),
    ]


def by_librosa_sharing(audio: Audio) -> list[Samples]:
    """Return the features of both presets from one spectrogram, with the tuning fixed."""
    y, f = audio.samples, librosa.feature
    magnitude = np.abs(librosa.stft(y))
    power = magnitude**2
    mel = f.melspectrogram(S=power, sr=RATE)
    centroid = f.spectral_centroid(S=magnitude, sr=RATE)
    mfcc = f.mfcc(S=librosa.power_to_db(mel), n_mfcc=50)
    return [
        mfcc,
        f.chroma_stft(S=power, sr=RATE, tuning=0.0),
        mel,
        f.zero_crossing_rate(y),
        centroid,
        f.spectral_rolloff(S=magnitude, sr=RATE),
        f.spectral_bandwidth(S=magnitude, sr=RATE, centroid=centroid),
        mfcc[:40],
        f.spectral_flatness(S=magnitude),
        f.spectral_contrast(S=magnitude, sr=RATE),
        f.rms(y=y),
    ]


def floor(audio: Audio) -> torch.Tensor:
    """Return mel energies by nothing but resampling, one transform and one product."""
    y = torch.nn.functional.pad(torch.from_numpy(audio.resample(RATE)), (1024, 1024))
    spectrum = torch.fft.rfft(y.unfold(0, 2048, 512) * WINDOW)
    return (spectrum.real.square() + spectrum.imag.square()) @ MEL


WINDOW = torch.hann_window(2048)
MEL = torch.from_numpy(librosa.filters.mel(sr=RATE, n_fft=2048).T.copy())


def resampled(audio: Audio) -> Audio:
    """Return the clip as `librosa.load` has it."""
    return Audio(librosa.resample(audio.samples, orig_sr=audio.sample_rate, target_sr=RATE), RATE)


FROM_WAVEFORM: dict[str, Callable[[Audio], object]] = {
    "ours": lambda audio: compute_features(audio, NAMES, FAMILIES),
    "librosa": by_librosa,
    "librosa_shared": by_librosa_sharing,
}
FROM_DECODED: dict[str, Callable[[Audio], object]] = {
    "ours_resampling": lambda audio: compute_features(audio, NAMES, FAMILIES),
    "librosa_resampling": lambda audio: by_librosa(resampled(audio)),
    "floor": floor,
}


def yin(audio: Audio) -> Samples:
    """Return librosa's F0 at the settings of ours."""
    family = F0()
    return librosa.yin(
        audio.waveform,
        fmin=family.lowest_hz,
        fmax=family.highest_hz,
        sr=family.sample_rate,
        frame_length=family.frame_length,
        hop_length=family.stft.hop_length,
    )


OTHERS: dict[str, Callable[[Audio], object]] = {
    "f0": lambda audio: compute_features(audio, ["f0"], FEATURE_SETS),
    "librosa_yin": yin,
    "default_sets": lambda audio: compute_features(audio, FEATURE_SETS, FEATURE_SETS),
}


def milliseconds(clips: list[Audio], sides: dict[str, Callable[[Audio], object]], runs: int) -> dict[str, float]:
    """Return each side's CPU time of all clips, the median of `runs` passes after one to warm up."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs + 1):
        for name, side in sides.items():
            began = time.process_time()
            for clip in clips:
                side(clip)
            times[name].append(1000 * (time.process_time() - began))
    return {name: median(passes[1:]) for name, passes in times.items()}


def sample(folder: str, n_clips: int) -> list[Audio]:
    """Return clips of a corpus, decoded, chosen by seed."""
    root = corpora_folder()
    if root is None:
        raise SystemExit("set SER_CORPORA to the folder of the corpora")
    paths = list_audio_files(Path(root) / folder)
    return [read_audio(paths[i]) for i in np.random.default_rng(0).choice(len(paths), n_clips, replace=False)]


def measure(name: str, clips: list[Audio], runs: int) -> dict[str, Any]:
    """Return one row of the table."""
    at_rate = [Audio(clip.resample(RATE), RATE) for clip in clips]
    spent = milliseconds(at_rate, FROM_WAVEFORM, runs) | milliseconds(clips, FROM_DECODED, runs)
    others = milliseconds(clips, OTHERS, runs)
    seconds = sum(clip.duration_s for clip in clips)
    return {
        "corpus": name,
        "clips": len(clips),
        "mean_seconds": round(seconds / len(clips), 2),
        **{f"{side}_ms": round(total / len(clips), 2) for side, total in (spent | others).items()},
        "speedup_vs_librosa": round(spent["librosa"] / spent["ours"], 2),
        "speedup_vs_librosa_resampling": round(spent["librosa_resampling"] / spent["ours_resampling"], 2),
        "speedup_vs_librosa_shared": round(spent["librosa_shared"] / spent["ours"], 2),
        "f0_speedup_vs_librosa": round(others["librosa_yin"] / others["f0"], 2),
        "over_floor": round(spent["ours_resampling"] / spent["floor"], 2),
        "clips_per_s": round(1000 * len(clips) / spent["ours_resampling"]),
        "real_time_factor": round(spent["ours_resampling"] / (1000 * seconds), 6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--publish", action="store_true", help="write tests/benchmarks/results/features.json")
    parser.add_argument("--clips", type=int, default=20, help="of each corpus")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Trying to estimate tuning")
    rows = [measure(name, sample(folder, options.clips), options.runs) for name, folder in CORPORA.items()]
    if not options.json:
        print(f"{' + '.join(NAMES)} at {RATE} Hz; one core, CPU ms a clip, median of {options.runs} runs")
        for row in rows:
            print(
                f"{row['corpus']:<8} {row['mean_seconds']:.1f} s"
                f"  ours {row['ours_ms']:6.2f}  librosa {row['librosa_ms']:6.2f} ({row['speedup_vs_librosa']:.1f}x)"
                f"  shared {row['librosa_shared_ms']:6.2f} ({row['speedup_vs_librosa_shared']:.1f}x)"
                f"\n{'with resampling':>16}  ours {row['ours_resampling_ms']:5.2f}"
                f"  librosa {row['librosa_resampling_ms']:6.2f} ({row['speedup_vs_librosa_resampling']:.1f}x)"
                f"  floor {row['floor_ms']:5.2f}  {row['clips_per_s']} clips/s"
                f"\n{'F0':>16}  ours {row['f0_ms']:5.2f}  librosa {row['librosa_yin_ms']:6.2f}"
                f" ({row['f0_speedup_vs_librosa']:.1f}x)"
                f"  all {len(FEATURE_SETS)} default sets {row['default_sets_ms']:.2f}"
            )
    # The worse corpus counts.
    keys = ("speedup_vs_librosa", "speedup_vs_librosa_resampling", "speedup_vs_librosa_shared", "clips_per_s")
    result: dict[str, Any] = {key: min(row[key] for row in rows) for key in keys}
    result["real_time_factor"] = max(row["real_time_factor"] for row in rows)
    result |= {"runs": options.runs, "rows": rows}
    if options.publish:
        (Path(__file__).parent / "results" / "features.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
