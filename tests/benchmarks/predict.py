"""How long a prediction takes: a 3 s, 16 kHz WAV file to probabilities in a warm process, and `ser predict FOLDER`.

    python -m tests.benchmarks.predict [--json] [--runs N] [--files N]

Every architecture in its own size, or one that a student has; the slowest student counts, and predicts the folder.
Threads are those of the product. CPU seconds of the command include its processes (Linux only). Prints a table, then
JSON as the last line.
"""

import argparse
import contextlib
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

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
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
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


def milliseconds(predictor: Predictor, clip: Path, runs: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of wall time and of CPU time of `runs` predictions after a warm-up."""
    wall, cpu = [], []
    for run in range(WARM_UP + runs):
        began, cpu_began = time.perf_counter(), time.process_time()
        predictor.predict_file(clip)
        if run >= WARM_UP:
            wall.append(1000 * (time.perf_counter() - began))
            cpu.append(1000 * (time.process_time() - cpu_began))
    return wall, cpu


def predict_folder(folder: Path, model: Path) -> dict[str, float | int]:
    """Run `ser predict` on a folder; return its files, wall seconds and CPU seconds."""
    adopt_orphans()
    command = [sys.executable, "-c", "from ser_platform.cli import main; main()", "predict", str(folder)]
    cpu_before, began = children_cpu_s(), time.perf_counter()
    done = subprocess.run([*command, "--model", str(model), "--json"], stdout=subprocess.PIPE, check=True)
    wall_s = time.perf_counter() - began
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()  # the processes of the command, which end with it
    cpu_s = children_cpu_s() - cpu_before
    return {"files": len(json.loads(done.stdout)), "wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2)}


def adopt_orphans() -> None:
    """Let the children of a child that has ended become children of this process, so that their CPU time is known."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children_cpu_s() -> float:
    """Return the CPU seconds of the children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Time every architecture and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--files", type=int, default=500, help="in the folder")
    options = parser.parse_args()
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
            wall, cpu = milliseconds(Predictor(made), clip, options.runs)
            p50, p95 = np.percentile(wall, [50, 95])
            row = {"model": name, "p50_ms": round(p50, 2), "p95_ms": round(p95, 2), "bytes": size}
            row |= {"cpu_p50_ms": round(float(np.median(cpu)), 2)}
            rows.append(row | {"parameters": count_prediction_parameters(made.settings, len(LABELS))})
        students = [row for row in rows if row["parameters"] <= MOST_PARAMETERS]
        slowest = max(students, key=lambda row: row["p50_ms"])
        folder = Path(scratch) / "clips"
        folder.mkdir()
        for number in range(options.files):
            shutil.copyfile(clip, folder / f"{number:05}.wav")
        command = {"model": slowest["model"], **predict_folder(folder, Path(scratch) / slowest["model"])}
    if not options.json:
        for row in rows:
            print(
                f"{row['model']:<18} p50 {row['p50_ms']:6.2f} ms   p95 {row['p95_ms']:6.2f} ms"
                f"   CPU {row['cpu_p50_ms']:6.2f} ms"
                f"   {row['bytes'] / 1000:8.0f} kB"
            )
        print(
            f"ser predict: {command['files']} files with {command['model']}: {command['wall_s']:.1f} s, "
            f"{command['cpu_s']:.1f} CPU seconds"
        )
    print(json.dumps({"p50_ms": slowest["p50_ms"], "seconds": SECONDS, "rows": rows, "folder": command}))


if __name__ == "__main__":
    main()
