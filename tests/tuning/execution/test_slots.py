"""Every slot of a study gets one process, also with very short trials."""

import math
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ray.tune import Trainable
from ray.tune.result import DONE

from ser_platform.settings import slots
from ser_platform.tuning.execution import tune_adapter
from ser_platform.tuning.execution.cluster import connect_cluster
from ser_platform.tuning.execution.tune_adapter import RecorderSearcher, TrialResources, WorkerWarmup, run_trials
from ser_platform.tuning.search_space.yaml_file import read_space
from tests.tuning.study.test_recorder import open_recorder, result
from tests.tuning.study_folders import create_study_folder

SPACE = """
role: student
base: {train.epochs: 1, model.name: bilstm}
space:
  seed: {int: [0, 1000000]}
budget: {trials: 40}
sampler: {name: random}
scheduler: {name: none}
"""
EPOCH = result(1, 0.5)


def short_trial() -> type[Trainable]:
    """Return a trainable that reports its process id as loss; a class of this function is pickled by value."""

    class ShortTrial(Trainable):
        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return True

        def step(self) -> dict[str, Any]:
            if self.config["number"] is None:
                return {}
            time.sleep(0.05)
            return {"epochs": [EPOCH | {"train_loss": float(os.getpid())}], DONE: True}

    return ShortTrial


@pytest.mark.ray
@pytest.mark.skipif(slots() < 2, reason="two slots need two CPU cores")
def test_trials_shorter_than_the_start_of_a_process_run_in_all_slots(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    folder = create_study_folder("made", role="student", corpus="made")
    recorder = open_recorder(read_space(tmp_path / "space.yaml"), folder)
    with connect_cluster():
        run_trials(recorder, TrialResources(short_trial(), {"cpu": 1.0}, max_concurrent=2), folder)
    assert recorder.state_counts == {"complete": 40, "pruned": 0, "failed": 0, "running": 0}
    trials_of = Counter(record.epoch_results[0]["train_loss"] for record in recorder.records.values())
    assert len(trials_of) == 2
    assert min(trials_of.values()) >= 10, "both processes train"


def test_the_wait_for_a_slot_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    warmup = WorkerWarmup(3)
    assert not warmup.mark_started("a")
    assert not warmup.mark_started("a"), "the same process, again"
    assert not warmup.mark_started("b")
    monkeypatch.setattr(tune_adapter, "WARMUP_TIMEOUT_S", -1.0)
    assert warmup.mark_started("a")


def test_each_slot_gets_a_process_before_the_first_trial(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    recorder = open_recorder(
        read_space(tmp_path / "space.yaml"), create_study_folder("made", role="student", corpus="made")
    )
    searcher = RecorderSearcher(recorder, math.inf, max_trials=40, n_warmups=2)
    assert [searcher.suggest(name)["number"] for name in "abcd"] == [None, None, 0, 1]


def test_slots_start_together() -> None:
    warmup = WorkerWarmup(2)
    assert not warmup.mark_started("a")
    assert warmup.mark_started("b")
    assert warmup.mark_started("a")
