"""Training runs as Ray tasks whose process is killed."""

import os
import signal
from typing import Any

import pytest

from ser_platform.errors import WorkFailed
from ser_platform.tuning.execution import fit_pool
from ser_platform.tuning.execution.cluster import connect_cluster


@pytest.mark.ray
def test_a_job_that_is_killed_each_time_is_one_error_and_ray_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def kill_itself(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    job: Any = None
    monkeypatch.setattr(fit_pool, "attach_shipment", lambda job: job)
    monkeypatch.setattr(fit_pool, "fit", kill_itself)
    with connect_cluster() as cluster, pytest.raises(WorkFailed, match="a training process was killed 3 times, as the"):
        fit_pool.fit_all([job], cluster, lambda done, n_all: None)
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""
