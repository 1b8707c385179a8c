"""What learning from a teacher costs a student's trial: the seconds of its epochs, beside those without a teacher.

    python -m tests.benchmarks.distillation [--rounds N] [--json]

The teacher's outputs are there already, as they are for every trial of a study but the first: what is left is to read
them and to compute another loss. Both trainings go through the same clips of EmoDB in the same order, an epoch each in
turn, so that whatever else the machine does falls on both. Floor: nothing, 1.00x.
"""

import argparse
import json
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from rich.console import Console

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.distillation.outputs import TeacherOutputs
from ser_platform.distillation.student_loss import make_student_loss
from ser_platform.features.dataset import DataRequest, Dataset, prepare_dataset
from ser_platform.files import write_json
from ser_platform.progress import Display
from ser_platform.settings import SettingValue, resolve
from ser_platform.training.configuration import feature_view
from ser_platform.training.loop import Trainer
from ser_platform.tuning.execution.fit_job import TrialData
from ser_platform.tuning.search_space.default_settings import choose_defaults
from tests.benchmarks.quality import RESULTS

STUDENT: dict[str, SettingValue] = {
    "model.name": "separable_cnn",
    "model.width": 20,
    "data.max_seconds": 4.0,
    "augment.masks": 2,
}
ARMS: dict[str, dict[str, SettingValue]] = {
    "undistilled": {},
    "kl": {"distill.alpha": 0.9},
    "kl_and_hint": {"distill.alpha": 0.9, "distill.hint": "mse"},
}
WIDTH = 512  # of the embeddings of Whisper base
GOAL = 1.05


def task_of(dataset: Dataset) -> TrialData:
    """Return EmoDB with random teacher outputs; their values do not change the time of an epoch."""
    rng, split, n_clips = np.random.default_rng(0), dataset.split, len(dataset.manifest)
    logits = rng.normal(size=(n_clips, len(dataset.labels))).astype(np.float32)
    outputs = {"out_of_fold": TeacherOutputs(logits, logits[:0], logits[:0])}
    hints = rng.normal(size=(n_clips, WIDTH)).astype(np.float32)
    return TrialData.from_split(split, dataset.labels, outputs, hints=hints)


def epochs(rounds: int, display: Display) -> dict[str, list[float]]:
    """Return the seconds of each epoch of each arm; the first, which warms caches, is left out."""
    settings = {name: resolve(choose_defaults("student", STUDENT) | STUDENT | arm) for name, arm in ARMS.items()}
    request = DataRequest(CorpusRequest("emodb"))
    dataset = prepare_dataset(
        request, display, require_one_split=True, names=feature_view(settings["kl"]).required_families
    )
    task, more = task_of(dataset), {"train.epochs": rounds + 1, "train.patience": rounds + 1}
    running = {
        name: Trainer(each.with_overrides(more), task.make_training_data(each), make_student_loss).epochs()
        for name, each in settings.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in ARMS}
    with display.show_progress("epochs of each arm") as progress:
        for number in range(rounds + 1):
            order = list(running)[number % len(running) :] + list(running)[: number % len(running)]
            for name in order:  # each arm is first in turn
                began = time.perf_counter()
                next(running[name])
                seconds[name].append(time.perf_counter() - began)
            progress(number + 1, rounds + 1)
    return {name: each[1:] for name, each in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="epochs of each arm (15)")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    display = Display(Console(quiet=options.json))
    seconds = epochs(options.rounds, display)
    ratios = {
        name: float(np.median(np.array(each) / np.array(seconds["undistilled"])))
        for name, each in seconds.items()
        if name != "undistilled"
    }
    result = {
        "epoch_s": {name: round(float(np.median(each)), 4) for name, each in seconds.items()},
        "ratio": {name: round(ratio, 4) for name, ratio in ratios.items()},
        "goal": GOAL,
        "epochs": options.rounds,
    }
    write_json(RESULTS / "distillation.json", result)
    if not options.json:
        for name, ratio in ratios.items():
            print(f"{name:<12} {ratio:.3f}x an epoch without a teacher (goal {GOAL}x)")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
