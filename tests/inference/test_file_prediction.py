"""Many files are shared among processes; predictions and refusals are those of one process, in order."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from ser_platform.errors import WorkFailed
from ser_platform.inference.bundle import read_bundle
from ser_platform.inference.file_prediction import FilePool, predict_files
from ser_platform.inference.predictor import Predictor
from ser_platform.process_pool import open_process_pool
from tests.inference.test_bundle import made_bundle


@pytest.fixture
def pool(tmp_path: Path) -> FilePool:
    """Two processes with a model in a folder, whatever the files take."""
    digest = made_bundle().write(tmp_path / "model", "# a card")
    return FilePool(tmp_path / "model", digest, processes=2, min_left_s=0.0)


@pytest.fixture
def files(tmp_path: Path, tone) -> list[Path]:
    """Files of which the 9th and the 21st contain no audio."""
    paths = [tmp_path / f"{number:02}.wav" for number in range(24)]
    for number, path in enumerate(paths):
        soundfile.write(path, tone(200.0 + 40 * number, 0.5), 16_000)
    for path in (paths[8], paths[20]):
        path.write_bytes(b"noise")
    return paths


def test_processes_predict_the_same_in_the_same_order_as_one(pool: FilePool, files: list[Path], monkeypatch):
    monkeypatch.setattr("ser_platform.inference.file_prediction.MAX_CHUNK_FILES", 3)
    predictor, counts = Predictor(read_bundle(pool.folder)), []
    alone, alone_refused = predict_files(predictor, files)
    shared, refused = predict_files(predictor, files, pool=pool, progress=lambda done, n_all: counts.append(done))
    assert [path for path, _ in shared] == [path for path in files if path not in (files[8], files[20])]
    for (path, one), (same_path, other) in zip(alone, shared, strict=True):
        assert (path, one.emotion, one.used_s) == (same_path, other.emotion, other.used_s)
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)  # sums can round differently
    assert [bad.path for bad in refused] == [bad.path for bad in alone_refused] == [str(files[8]), str(files[20])]
    assert counts == sorted(counts) and counts[-1] == len(files)


def test_no_process_is_started_for_work_that_ends_before_it_has_started(pool: FilePool, files: list[Path], monkeypatch):
    monkeypatch.setattr("ser_platform.inference.file_prediction.open_process_pool", None)
    predictor = Predictor(read_bundle(pool.folder))
    assert len(predict_files(predictor, files, pool=replace(pool, min_left_s=60.0))[0]) == 22
    assert len(predict_files(predictor, files, pool=replace(pool, processes=1))[0]) == 22


def test_a_process_that_ends_early_fails_the_command(pool: FilePool, files: list[Path], monkeypatch):
    monkeypatch.setattr("ser_platform.inference.file_prediction.MAX_CHUNK_FILES", 3)
    with pytest.raises(WorkFailed, match="ended early: .*model was altered"):
        predict_files(Predictor(read_bundle(pool.folder)), files, pool=replace(pool, digest="0" * 64))


def run_until_ctrl_c(times: list[float]) -> None:
    with open_process_pool(2, "time") as executor:
        executor.submit(os.getpid).result()
        executor.submit(time.sleep, 600)
        time.sleep(0.2)
        times.append(time.monotonic())
        raise KeyboardInterrupt


def test_ctrl_c_ends_the_processes_of_a_pool_at_once():
    times: list[float] = []
    with pytest.raises(KeyboardInterrupt):
        run_until_ctrl_c(times)
    assert time.monotonic() - times[0] < 5
