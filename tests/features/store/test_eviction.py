"""The size limit of the store, the order of eviction, and the clips that are never evicted."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ser_platform.corpora.corpus_lookup import FoundCorpus
from ser_platform.corpora.manifest import Manifest
from ser_platform.errors import UserError, WorkFailed
from ser_platform.features.store import extraction, feature_store
from ser_platform.features.store.eviction import (
    GIGABYTE,
    collect_garbage,
    list_family_folders,
    list_stored_families,
    measure_store_size,
    read_size_limit,
)
from ser_platform.features.store.feature_store import StoredFamily, prepare_features
from ser_platform.features.store.folders import families_folder, family_folder

ROOT = Path(__file__).resolve().parents[3]
HOLD = """
import sys
from pathlib import Path
from ser_platform.features.store.locks import hold_read_lock
with hold_read_lock(Path(sys.argv[1])):
    pass
print("open", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def manifest(few_tones: Path) -> Manifest:
    return FoundCorpus("ravdess", few_tones).read_manifest()[0]


@pytest.fixture(autouse=True)
def _as_separate_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enforce the limit after every shard."""
    monkeypatch.setattr(feature_store, "INDEX_WRITE_INTERVAL_S", 0.0)
    monkeypatch.setattr(feature_store, "MAX_INDEX_WRITE_SHARE", 1e9)
    monkeypatch.setattr(extraction, "CLIPS_PER_JOB", 3)


def folder(name: str) -> Path:
    return family_folder(families_folder(), name, "float32")


def count_stored_clips() -> dict[str, int]:
    """Return the number of stored clips by family."""
    return {entry.about["family"]: entry.n_clips for entry in list_stored_families(families_folder())}


def take(manifest: Manifest, *rows: int) -> Manifest:
    return manifest.take(np.array(rows))


def set_back(name: str, days: float) -> None:
    """Set the recorded accesses of a family back by some days."""
    for file in folder(name).glob("*.use"):
        then = file.stat().st_mtime - days * 86_400
        os.utime(file, (then, then))


def allow(monkeypatch: pytest.MonkeyPatch, n_bytes: float) -> None:
    monkeypatch.setenv("SER_FEATURES_GB", str(n_bytes / GIGABYTE))


def test_there_is_no_limit_by_default(monkeypatch):
    assert read_size_limit() is None
    monkeypatch.setenv("SER_FEATURES_GB", "1.5")
    assert read_size_limit() == 1_500_000_000


@pytest.mark.parametrize("text", ["much", "0", "-1", "nan", "inf"])
def test_an_invalid_limit_is_refused_before_decoding(manifest, monkeypatch, text):
    monkeypatch.setenv("SER_FEATURES_GB", text)
    with pytest.raises(UserError, match="SER_FEATURES_GB must be a number of gigabytes above 0"):
        prepare_features(manifest, ["rms"])
    assert not families_folder().exists()


def test_the_least_recently_used_family_is_removed_first(manifest, monkeypatch):
    for days, name in ((3, "log_mel"), (2, "mfcc")):
        prepare_features(manifest, [name])
        set_back(name, days)
    allow(monkeypatch, measure_store_size(families_folder()) + 1000)
    prepare_features(manifest, ["rms"])
    assert count_stored_clips() == {"mfcc": 9, "rms": 9}


def test_using_a_family_again_keeps_it(manifest, monkeypatch):
    for days, name in ((3, "log_mel"), (2, "mfcc")):
        prepare_features(manifest, [name])
        set_back(name, days)
    prepare_features(manifest, ["log_mel"])
    allow(monkeypatch, measure_store_size(families_folder()) + 1000)
    prepare_features(manifest, ["rms"])
    assert count_stored_clips() == {"log_mel": 9, "rms": 9}


def test_unused_clips_of_a_used_family_are_removed(manifest, monkeypatch):
    prepare_features(take(manifest, 0, 1, 2, 3, 4), ["log_mel"])
    set_back("log_mel", 1)
    needed = take(manifest, 4, 5, 6, 7, 8)
    allow(monkeypatch, 1.2 * measure_store_size(families_folder()))
    prepared = prepare_features(needed, ["log_mel"]).manifest
    assert count_stored_clips() == {"log_mel": 5}
    assert measure_store_size(families_folder()) <= read_size_limit()
    assert StoredFamily("log_mel", tuple(prepared.column("audio_sha256"))).lengths.all()


def test_more_features_than_the_limit_are_refused_without_removing_them(manifest, monkeypatch):
    prepare_features(manifest, ["rms"])
    allow(monkeypatch, measure_store_size(families_folder()) + 100_000)
    with pytest.raises(WorkFailed, match=r"SER_FEATURES_GB allows 0.0001\d*: raise it, or use fewer feature sets"):
        prepare_features(manifest, ["log_mel", "rms"])
    assert count_stored_clips()["rms"] == 9
    assert 0 < count_stored_clips()["log_mel"] < 9, "extraction stopped"


def test_a_family_open_in_another_process_is_kept(manifest, monkeypatch):
    prepare_features(manifest, ["log_mel"])
    set_back("log_mel", 9)
    command = [sys.executable, "-c", HOLD, str(folder("log_mel"))]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout.readline() == "open\n"
        assert collect_garbage(families_folder(), max_bytes=0) == 0
        assert count_stored_clips() == {"log_mel": 9}
        other.communicate("\n")
    collect_garbage(families_folder(), max_bytes=0)
    assert count_stored_clips() == {}


def test_leftovers_of_killed_runs_and_unreadable_families_are_garbage(manifest):
    prepare_features(manifest, ["rms"])
    left = [folder("rms") / name for name in ("torn.npy", ".torn.json.x1.json", "old.json")]
    for path in left:
        path.write_bytes(b"0" * 100)
    old = families_folder() / "log_mel-0123456789ab"
    old.mkdir()
    (old / "shard.npy").write_bytes(b"0" * 1000)
    assert collect_garbage(families_folder(), dry_run=True) == 1300
    assert old.exists() and all(path.exists() for path in left)
    assert collect_garbage(families_folder()) == 1300
    assert list_family_folders(families_folder()) == [folder("rms")]
    assert not any(path.exists() for path in left)
    assert count_stored_clips() == {"rms": 9}


def test_clips_unused_for_days_are_removed(manifest):
    prepare_features(manifest, ["log_mel", "rms"])
    set_back("log_mel", 31)
    before = max(entry.accessed_at for entry in list_stored_families(families_folder())) - 30 * 86_400
    freed = collect_garbage(families_folder(), accessed_before=before, dry_run=True)
    assert freed > 0 and count_stored_clips() == {"log_mel": 9, "rms": 9}
    assert collect_garbage(families_folder(), accessed_before=before) == freed
    assert count_stored_clips() == {"rms": 9}


def test_clips_of_an_unfinished_run_can_be_removed(manifest):
    prepare_features(manifest, ["rms"])
    for file in folder("rms").glob("*.use"):
        file.unlink()
    collect_garbage(families_folder(), max_bytes=0)
    assert count_stored_clips() == {}


def test_clips_of_two_commands_are_as_recent_as_the_later_one(manifest):
    prepare_features(take(manifest, 0, 1), ["rms"])
    set_back("rms", 5)
    prepare_features(take(manifest, 1, 2), ["rms"])
    before = max(entry.accessed_at for entry in list_stored_families(families_folder())) - 86_400
    collect_garbage(families_folder(), accessed_before=before)
    assert count_stored_clips() == {"rms": 2}
