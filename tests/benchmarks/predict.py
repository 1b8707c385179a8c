"""How long one prediction takes: a 3 s, 16 kHz WAV file to probabilities, one core, warm process.

    python -m tests.benchmarks.predict [--json] [--runs N]

Every architecture in its own size, or one that a student has; the slowest student counts. Prints a
table, then JSON as the last line.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from ser_platform.corpora.audio.reader import SAMPLE_RATE
from ser_platform.corpora.lineage import Lineage
from ser_platform.emotions import EMOTIONS
from ser_platform.features.views.normaliser import Normaliser
from ser_platform.inference.bundle import Bundle, read_bundle
from ser_platform.inference.predictor import Predictor
from ser_platform.models import NEURAL, build_model
from ser_platform.settings import Settings, resolve
from ser_platform.training.configuration import count_prediction_parameters, feature_view

SECONDS = 3.0
WARM_UP = 20
MOST_PARAMETERS = 250_000  # of a student
RECURRENT = {"model.hidden_size": 64, "model.subsample": 4}  # the published ones have more parameters than that
STUDENT_SIZES = {"bilstm": RECURRENT, "attention_bilstm": RECURRENT}
LABELS = EMOTIONS[:8]


def bundle(settings: Settings, folder: Path) -> tuple[Bundle, int]:
    """Return a bundle with random weights, read back from disk, and its size in bytes."""
    view = feature_view(settings)
    model = build_model(settings, view.n_features, len(LABELS))
    normaliser = Normaliser(np.zeros(view.n_features, np.float32), np.ones(view.n_features, np.float32))
    made = Bundle("student", settings, view, LABELS, model.state_dict(), normaliser, 1.0, "none", {}, Lineage())
    made.write(folder, "made for timing")
    return read_bundle(folder), sum(path.stat().st_size for path in folder.iterdir())


def milliseconds(predictor: Predictor, clip: Path, runs: int) -> list[float]:
    """Return the milliseconds of `runs` predictions after a warm-up."""
    times = []
    for run in range(WARM_UP + runs):
        began = time.perf_counter()
        predictor.predict_file(clip)
        if run >= WARM_UP:
            times.append(1000 * (time.perf_counter() - began))
    return times


def main() -> None:
    """Time every architecture and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--runs", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        clip = Path(scratch) / "clip.wav"
        noise = np.random.default_rng(0).normal(0, 0.1, int(SECONDS * SAMPLE_RATE))
        soundfile.write(clip, noise, SAMPLE_RATE, subtype="PCM_16")
        for name in NEURAL:
            sets = (
                ["log_mel", "mfcc", "zcr", "rms"] if name.endswith("bilstm") and name != "cnn_bilstm" else ["log_mel"]
            )
            own = {"model.name": name, "features.sets": sets, **STUDENT_SIZES.get(name, {})}
            made, size = bundle(resolve(own), Path(scratch) / name)
            times = milliseconds(Predictor(made), clip, options.runs)
            p50, p95 = np.percentile(times, [50, 95])
            row = {"model": name, "p50_ms": round(p50, 2), "p95_ms": round(p95, 2), "bytes": size}
            rows.append(row | {"parameters": count_prediction_parameters(made.settings, len(LABELS))})
    if not options.json:
        for row in rows:
            print(
                f"{row['model']:<18} p50 {row['p50_ms']:6.2f} ms   p95 {row['p95_ms']:6.2f} ms"
                f"   {row['bytes'] / 1000:8.0f} kB"
            )
    students = [row for row in rows if row["parameters"] <= MOST_PARAMETERS]
    print(json.dumps({"p50_ms": max(row["p50_ms"] for row in students), "seconds": SECONDS, "rows": rows}))


if __name__ == "__main__":
    main()
