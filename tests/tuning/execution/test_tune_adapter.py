"""The records of trials whose ends and errors Tune passes to the search, without a cluster."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.exceptions import ActorDiedError, RayActorError
from ray.tune.result import DONE

from ser_platform.training.loop import Diverged
from ser_platform.tuning.execution import tune_trainable
from ser_platform.tuning.execution.tune_adapter import RecorderScheduler
from ser_platform.tuning.execution.tune_trainable import TuneTrial
from ser_platform.tuning.search_space.yaml_file import read_space
from ser_platform.tuning.study.recorder import StudyRecorder
from ser_platform.tuning.study.status_line import MAX_FAILURES_SHOWN, format_failures
from tests.tuning.study.test_recorder import open_recorder, result
from tests.tuning.study_folders import create_study_folder

SPACE = """
role: student
base: {train.epochs: 3, model.name: bilstm}
space:
  optimizer.lr: {loguniform: [1.0e-4, 1.0e-2]}
budget: {trials: 9}
"""
KILLED = ActorDiedError()
NOT_STARTED = RayActorError(
    None, "raised in its creation task\nModuleNotFoundError: no opensmile", actor_init_failed=True
)


@pytest.fixture
def recorder(tmp_path: Path) -> StudyRecorder:
    (tmp_path / "space.yaml").write_text(SPACE)
    return open_recorder(
        read_space(tmp_path / "space.yaml"), create_study_folder("made", role="student", corpus="made")
    )


def scheduler_of(recorder: StudyRecorder) -> RecorderScheduler:
    return RecorderScheduler(recorder, lambda: None)


def end_with(error: Exception, number: int, folder: Path) -> Any:
    """Return a trial of Tune that an error has ended."""
    path = folder / "error.pkl"
    path.write_bytes(cloudpickle.dumps(error))
    return SimpleNamespace(config={"number": number}, pickled_error_file=str(path))


def test_a_trial_that_is_killed_each_time_fails_and_the_study_goes_on(recorder: StudyRecorder, tmp_path: Path) -> None:
    lines: list[str] = []
    scheduler, first = RecorderScheduler(recorder, lambda: None, print_line=lines.append), recorder.ask()
    assert first is not None
    for _ in range(2):
        scheduler.on_trial_error(None, end_with(KILLED, first.number, tmp_path))
        again = recorder.ask()
        assert again is not None
        assert again.number == first.number, "it runs again under its number"
    scheduler.on_trial_error(None, end_with(KILLED, first.number, tmp_path))
    failed, following = recorder.records[first.number], recorder.ask()
    assert failed.state == "failed"
    assert failed.failure_reason == "its process was killed, as the system does when memory runs out, 3 times"
    killed = "trial 0: its process was killed, as the system does when memory runs out; the trial runs again"
    assert lines == [killed] * 2, "each death is one line"
    assert following is not None
    assert following.number == first.number + 1


def test_a_trial_whose_process_fails_to_start_fails_with_the_reason(recorder: StudyRecorder, tmp_path: Path) -> None:
    record = recorder.ask()
    assert record is not None
    scheduler_of(recorder).on_trial_error(None, end_with(NOT_STARTED, record.number, tmp_path))
    assert recorder.records[record.number].failure_reason == "ModuleNotFoundError: no opensmile"
    assert not recorder.has_requeued


def test_a_trial_with_a_nan_loss_fails_with_the_reason_and_keeps_its_epochs(
    recorder: StudyRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def epochs(*_: object) -> Any:
        yield result(1, 0.5)
        raise Diverged("loss is nan in epoch 2; lower optimizer.lr (0.01)")

    record = recorder.ask()
    assert record is not None
    monkeypatch.setattr(tune_trainable, "train_trial_epochs", epochs)
    diverging = TuneTrial.__new__(TuneTrial)  # Tune's own setup needs a cluster
    diverging.config = {"number": record.number, "settings": record.settings.dotted(), "decides": set()}
    diverging.setup(diverging.config, job=None)  # type: ignore[arg-type]
    last = diverging.step()
    assert last[DONE]
    scheduler_of(recorder).on_trial_complete(None, SimpleNamespace(config=diverging.config), last)
    assert record.state == "failed"
    assert record.failure_reason == "Diverged: loss is nan in epoch 2; lower optimizer.lr (0.01)"
    assert len(record.epoch_results) == 1


def test_each_failure_is_one_line_and_many_are_counted(recorder: StudyRecorder) -> None:
    for _ in range(MAX_FAILURES_SHOWN + 2):
        record = recorder.ask()
        assert record is not None
        recorder.finish(record.number, failure="no audio")
    lines = format_failures(recorder)
    assert lines[0] == "trial 0 failed: no audio"
    assert lines[MAX_FAILURES_SHOWN:] == ["2 more trials failed; see the tag reason of their runs"]
