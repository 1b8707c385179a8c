"""The store after a kill, with a second process or a full disk: features are never wrong."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ser_platform.corpora.manifest import Manifest
from ser_platform.errors import WorkFailed
from ser_platform.features.store import extraction, feature_store, merging, shard
from ser_platform.features.store.feature_store import prepare_features
from ser_platform.features.store.locks import is_in_use
from ser_platform.features.store.merging import merge_shards
from tests.features.store.reading import NAMES, data_of, features_of, folder, hashes_of, manifest_of

ROOT = Path(__file__).resolve().parents[3]
# Waits for a line on standard input, so that a test controls its progress.
PREPARE = """
import sys
from pathlib import Path
from ser_platform.corpora.corpus_lookup import FoundCorpus
from ser_platform.features.store import extraction
from ser_platform.features.store.feature_store import prepare_features, open_family
extraction.CLIPS_PER_JOB = 1
if __name__ == "__main__":
    manifest = FoundCorpus("ravdess", Path(sys.argv[1])).read_manifest()[0]
    report = lambda done, of: print(done, flush=True)
    prepared = prepare_features(manifest, ("log_mel", "rms"), progress=report).manifest
    family = open_family("log_mel", tuple(prepared.column("audio_sha256")))
    print("open", flush=True)
    if sys.stdin.readline():
        print(sum(float(family.read_clip(number).sum()) for number in range(len(prepared))), flush=True)
"""


@pytest.fixture
def prepared(few_tones: Path) -> Manifest:
    return prepare_features(manifest_of(few_tones), NAMES).manifest


@contextlib.contextmanager
def run_preparation(corpus: Path, home: Path, before: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run a process that prepares the corpus in shards of one clip, opens a family and waits for a line.

    `before` is code that runs first.
    """
    environment = os.environ | {"SER_HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", before + PREPARE, str(corpus)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True, cwd=home.parent) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word:
            return
    raise AssertionError(f"ended without {word!r}")


def test_a_kill_between_two_families_loses_the_second_only(few_tones, monkeypatch):
    write, written = extraction.write_shard, []

    def raise_after_one(folder, about, clips):
        if written:
            raise KeyboardInterrupt
        written.append(write(folder, about, clips))

    with monkeypatch.context() as patch:
        patch.setattr(extraction, "write_shard", raise_after_one)
        with pytest.raises(KeyboardInterrupt):
            prepare_features(manifest_of(few_tones), NAMES)
    monkeypatch.setattr(extraction, "compute_features", computing := _Names(extraction.compute_features))
    assert prepare_features(manifest_of(few_tones), NAMES).n_decoded == 9
    assert computing.names == {"rms"}


class _Names:
    def __init__(self, function) -> None:
        self.function, self.names = function, set()

    def __call__(self, audio, names, families):
        self.names |= set(names)
        return self.function(audio, names, families)


def test_a_kill_loses_one_shard_only(few_tones, monkeypatch):
    monkeypatch.setattr(extraction, "CLIPS_PER_JOB", 4)
    monkeypatch.setattr(feature_store, "INDEX_WRITE_INTERVAL_S", 0.0)
    monkeypatch.setattr(feature_store, "MAX_INDEX_WRITE_SHARE", 1e9)  # written after each shard
    extract, calls = extraction.extract, []

    def raise_in_the_third(job):
        calls.append(job)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return extract(job)

    monkeypatch.setattr(extraction, "extract", raise_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        prepare_features(manifest_of(few_tones), NAMES)
    assert prepare_features(manifest_of(few_tones), NAMES).n_decoded == 1


@pytest.mark.parametrize("moment", ["write_shard", "_remove_shards"])
def test_a_kill_during_merging_loses_nothing(prepared, few_tones, tmp_path, monkeypatch, moment):
    before = features_of(prepared)
    monkeypatch.setenv("SER_HOME", str(tmp_path / "killed"))
    monkeypatch.setattr(extraction, "CLIPS_PER_JOB", 2)
    with monkeypatch.context() as patch:
        patch.setattr(merging, moment, _interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare_features(manifest_of(few_tones), NAMES)
    assert prepare_features(manifest_of(few_tones), NAMES).n_decoded == 0
    assert len(data_of("log_mel")) == 1
    for values, again in zip(before, features_of(prepared), strict=True):
        np.testing.assert_array_equal(values, again)


def _interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_kill_9_during_extraction_then_a_second_run_gives_the_same_bits(prepared, few_tones, tmp_path, monkeypatch):
    before = features_of(prepared)
    home = tmp_path / "killed"
    with run_preparation(few_tones, home) as process:
        wait_for(process, "4")
        process.send_signal(signal.SIGKILL)
    monkeypatch.setenv("SER_HOME", str(home))
    assert len(data_of("log_mel")) >= 4
    again = prepare_features(manifest_of(few_tones), NAMES).manifest
    assert len(data_of("log_mel")) == 1
    for values, other in zip(before, features_of(again), strict=True):
        np.testing.assert_array_equal(values, other)


KILL = "import os\nfrom ser_platform.features.store import merging\ndef kill(*given): os.kill(os.getpid(), 9)\n"
HALF = (
    "def half(folder, about, clips):\n"
    "    (folder / 'half.npy').write_bytes(clips[0].values.tobytes())\n"
    "    kill()\n"
    "merging.write_shard = half\n"
)


@pytest.mark.parametrize(
    "moment",
    [HALF, "merging._remove_shards = kill\n"],
    ids=["the new file is half written", "the old files are not removed yet"],
)
def test_kill_9_during_merging_then_a_second_run_gives_the_same_bits(
    prepared, few_tones, tmp_path, monkeypatch, moment
):
    before = features_of(prepared)
    home = tmp_path / "killed"
    with run_preparation(few_tones, home, KILL + moment) as process:
        assert process.wait(60) == -signal.SIGKILL
    monkeypatch.setenv("SER_HOME", str(home))
    assert prepare_features(manifest_of(few_tones), NAMES).n_decoded == 0
    assert len(data_of("log_mel")) == len(data_of("rms")) == 1
    for values, other in zip(before, features_of(prepared), strict=True):
        np.testing.assert_array_equal(values, other)


def test_two_processes_that_extract_together_write_one_store(prepared, few_tones, tmp_path, monkeypatch):
    before = features_of(prepared)
    home = tmp_path / "shared"
    with run_preparation(few_tones, home) as first, run_preparation(few_tones, home) as second:
        for process in (first, second):
            wait_for(process, "open")
        sums = [process.communicate("go\n")[0] for process in (first, second)]
    assert float(sums[0]) == float(sums[1]) != 0
    monkeypatch.setenv("SER_HOME", str(home))
    assert prepare_features(manifest_of(few_tones), NAMES).n_decoded == 0
    assert len(data_of("log_mel")) == len(data_of("rms")) == 1
    for values, other in zip(before, features_of(prepared), strict=True):
        np.testing.assert_array_equal(values, other)


def test_a_process_can_read_an_open_family_while_it_is_merged(few_tones, tmp_path, monkeypatch):
    monkeypatch.setenv("SER_HOME", str(tmp_path / "shared"))
    with run_preparation(few_tones, tmp_path / "shared") as reader:
        wait_for(reader, "open")
        assert is_in_use(folder("log_mel"))
        (old,) = data_of("log_mel")
        total = sum(
            float(values.sum()) for values in features_of(prepare_features(manifest_of(few_tones), NAMES).manifest)[:9]
        )
        drop = {bytes.fromhex(hashes_of(prepare_features(manifest_of(few_tones), NAMES).manifest)[0])}
        merge_shards(folder("log_mel"), drop)
        assert old.exists(), "another process reads it"
        assert len(data_of("log_mel")) == 2
        assert float(reader.communicate("go\n")[0]) == pytest.approx(total)
    assert not is_in_use(folder("log_mel")), "a lease ends with its process"
    merge_shards(folder("log_mel"))
    assert data_of("log_mel") == [old]


def test_worker_processes_of_a_killed_command_end(few_tones, tmp_path):
    script = PREPARE.replace(
        "extraction.CLIPS_PER_JOB = 1", "extraction.CLIPS_PER_JOB = 1; extraction.POOL_STARTS_S = -1.0"
    )
    script = script.replace("extraction.POOL", "extraction.slots = lambda: 2; extraction.POOL")
    script = script.replace("print(done, flush=True)", "(print(done, flush=True), __import__('time').sleep(0.2))")
    path = tmp_path / "script.py"
    path.write_text(script)
    environment = os.environ | {"SER_HOME": str(tmp_path / "killed"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(path), str(few_tones)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as started:
        wait_for(started, "3")
        members = [pid for pid in _in_session(started.pid) if pid != started.pid]
        started.kill()
    assert members
    deadline = time.monotonic() + 20
    while any(_runs(pid) for pid in members) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_runs(pid) for pid in members)


def _in_session(session: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                found.append(int(stat.parent.name))
    return found


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_full_disk_is_reported_in_one_line_and_leaves_no_partial_files(prepared, few_tones, tmp_path, monkeypatch):
    before = features_of(prepared)
    monkeypatch.setenv("SER_HOME", str(tmp_path / "full"))
    monkeypatch.setattr(extraction, "CLIPS_PER_JOB", 3)
    write, calls = shard._write_array, []

    def write_seven(path, *more):
        calls.append(path)
        stamp = write(path, *more)
        if len(calls) == 7:
            os.truncate(path, 10)
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return stamp

    with monkeypatch.context() as patch:
        patch.setattr(shard, "_write_array", write_seven)
        with pytest.raises(
            WorkFailed, match=r"no space left for features in .*full/features: 6 clips still need about"
        ):
            prepare_features(manifest_of(few_tones), NAMES)
    assert not calls[-1].exists()
    assert prepare_features(manifest_of(few_tones), NAMES).n_decoded == 6
    for values, again in zip(before, features_of(prepared), strict=True):
        np.testing.assert_array_equal(values, again)


def test_shards_are_not_merged_on_a_full_disk(few_tones, monkeypatch):
    monkeypatch.setattr(extraction, "CLIPS_PER_JOB", 3)

    def raise_full_disk(folder, about, clips):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(merging, "write_shard", raise_full_disk)
        manifest = prepare_features(manifest_of(few_tones), NAMES).manifest
    assert len(data_of("rms")) == 3
    several = features_of(manifest)
    assert prepare_features(manifest, NAMES).n_decoded == 0
    assert len(data_of("rms")) == 1
    for values, again in zip(several, features_of(manifest), strict=True):
        np.testing.assert_array_equal(values, again)
