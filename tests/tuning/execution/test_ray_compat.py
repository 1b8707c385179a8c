"""Each private API of Ray that is used exists; a failure names it. No test here starts Ray."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.tune.result
from ray import cloudpickle
from ray._private import worker
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.tune.experiment import Trial

from ser_platform.tuning.execution.ray_compat import DONE, read_trial_error, silence_crash_reports, start_local_ray
from ser_platform.tuning.execution.ray_train_compat import UNNEEDED_CALLBACKS, LeanTorchTrainer


def test_the_key_that_ends_a_trial_is_the_one_of_tune() -> None:
    assert ray.tune.result.DONE == DONE


def test_a_local_cluster_listens_on_the_address_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(ray, "init", lambda **options: given.update(options))
    start_local_ray(2, "127.0.0.1")
    assert given["_node_ip_address"] == "127.0.0.1"


def test_ray_init_takes_the_address_of_its_node() -> None:
    assert '"_node_ip_address"' in inspect.getsource(ray.init), "ray.init reads no _node_ip_address any more"


def test_the_thread_that_prints_crash_reports_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "target=listen_error_messages" in inspect.getsource(worker.connect), "ray.init starts another thread"
    monkeypatch.setattr(worker, "listen_error_messages", worker.listen_error_messages)  # restored after the test
    silence_crash_reports()
    assert worker.listen_error_messages(None, None) is None, "it ends at once"


def test_a_trial_of_tune_writes_its_error_where_it_is_read(tmp_path: Path) -> None:
    assert isinstance(inspect.getattr_static(Trial, "pickled_error_file"), property)
    written = tmp_path / "error.pkl"
    written.write_bytes(cloudpickle.dumps(ValueError("no audio")))

    class Failed:
        pickled_error_file = str(written)

    assert str(read_trial_error(Failed())) == "no audio"
    written.unlink()
    assert read_trial_error(Failed()) is None


def test_the_callbacks_of_ray_train_that_are_left_out_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "_create_default_callbacks" in vars(DataParallelTrainer), "DataParallelTrainer has another hook"
    defaults = inspect.getsource(DataParallelTrainer._create_default_callbacks)
    for name in UNNEEDED_CALLBACKS:
        assert name in defaults, f"{name} is no default callback of Ray Train any more"
    kept, unneeded = type("Kept", (), {})(), [type(name, (), {})() for name in UNNEEDED_CALLBACKS]
    monkeypatch.setattr(DataParallelTrainer, "_create_default_callbacks", lambda self: [*unneeded, kept])
    assert LeanTorchTrainer._create_default_callbacks(object.__new__(LeanTorchTrainer)) == [kept]
