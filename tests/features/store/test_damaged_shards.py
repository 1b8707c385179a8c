"""The store with damaged files: they are found and extracted again."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ser_platform.corpora.manifest import Manifest
from ser_platform.errors import WorkFailed
from ser_platform.features.store import shard
from ser_platform.features.store.feature_store import StoredFamily, open_family, prepare_features, verify_store
from tests.features.store.reading import NAMES, data_of, features_of, folder, hashes_of, manifest_of


def flip(path: Path, *, quietly: bool = False) -> None:
    """Change the last byte; `quietly` keeps the modification time, as a failing disk does."""
    before = path.stat()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    if quietly:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def prepared(few_tones: Path) -> Manifest:
    return prepare_features(manifest_of(few_tones), NAMES).manifest


@pytest.mark.parametrize("spoil", [flip, Path.unlink, lambda path: os.truncate(path, path.stat().st_size - 8)])
def test_a_changed_cut_or_missing_file_is_extracted_again(prepared, few_tones, spoil):
    before = features_of(prepared)
    spoil(data_of("log_mel")[0])
    with pytest.raises(WorkFailed, match="9 clips have no stored log_mel .*run the command again"):
        StoredFamily("log_mel", hashes_of(prepared))
    assert prepare_features(manifest_of(few_tones), NAMES).n_decoded == 9
    for values, again in zip(before, features_of(prepared), strict=True):
        np.testing.assert_array_equal(values, again)


def test_a_byte_that_the_disk_changed_is_found_on_reading(prepared, few_tones):
    before = features_of(prepared)
    flip(data_of("log_mel")[0], quietly=True)
    family = StoredFamily("log_mel", hashes_of(prepared))
    with pytest.raises(WorkFailed, match="1 stored feature files were damaged .* run the command again"):
        [family.read_clip(number) for number in range(9)]
    assert prepare_features(manifest_of(few_tones), NAMES).n_decoded == 9
    for values, again in zip(before, features_of(prepared), strict=True):
        np.testing.assert_array_equal(values, again)


def test_verify_reads_everything_and_drops_damaged_shards(prepared, few_tones):
    assert verify_store(NAMES) > 0
    flip(data_of("rms")[0], quietly=True)
    with pytest.raises(WorkFailed, match="damaged"):
        verify_store(NAMES)
    assert prepare_features(manifest_of(few_tones), NAMES).n_decoded == 9
    verify_store(NAMES)


@pytest.mark.parametrize("spoil", [flip, Path.unlink])
def test_damaged_sums_are_extracted_again(prepared, few_tones, spoil):
    (index,) = folder("rms").glob("*.clips.npy")
    spoil(index)
    assert prepare_features(manifest_of(few_tones), NAMES).n_decoded == 9


@pytest.mark.parametrize(
    "content", ["", '{"half', "[]", "{}", '{"hashes": ["00"], "lengths": [3], "sha256": "", "sums_sha256": ""}']
)
def test_a_shard_with_an_unreadable_record_is_extracted_again(prepared, few_tones, content):
    (record,) = folder("rms").glob("*.json")
    record.write_text(content)
    assert prepare_features(manifest_of(few_tones), NAMES).n_decoded == 9


def test_a_shard_with_an_altered_record_is_extracted_again(prepared, few_tones):
    (record,) = folder("log_mel").glob("*.json")
    record.write_text(record.read_text().replace('"n_features": 64', '"n_features": 32'))
    assert prepare_features(manifest_of(few_tones), NAMES).n_decoded == 9


def test_a_store_of_another_format_is_extracted_again(prepared, few_tones, monkeypatch):
    monkeypatch.setattr(shard, "FORMAT_VERSION", shard.FORMAT_VERSION + 1)
    with pytest.raises(WorkFailed, match="9 clips have no stored rms"):
        StoredFamily("rms", hashes_of(prepared))
    assert prepare_features(manifest_of(few_tones), NAMES).n_decoded == 9
    assert len(list(folder("rms").glob("*.json"))) == 1, "the old shard is removed"


def test_a_copied_store_is_verified_once(prepared, tmp_path, monkeypatch):
    before = features_of(prepared)
    shutil.copytree(tmp_path / "ser-home", tmp_path / "copied", copy_function=shutil.copyfile)
    monkeypatch.setenv("SER_HOME", str(tmp_path / "copied"))
    for values, again in zip(before, features_of(prepared), strict=True):
        np.testing.assert_array_equal(values, again)
    monkeypatch.setattr(shard, "sha256_of", hashed := _Recorder(shard.sha256_of))
    StoredFamily("log_mel", hashes_of(prepared))
    assert [path.name for path in hashed.paths if ".clips" not in path.name] == []


class _Recorder:
    def __init__(self, function: Callable[[Path], str]) -> None:
        self.function, self.paths = function, []

    def __call__(self, path: Path) -> str:
        self.paths.append(path)
        return self.function(path)


def test_data_without_a_record_are_removed(prepared, few_tones):
    """The JSON is written last; a kill before it leaves data without a record."""
    torn = folder("rms") / "torn.npy"
    np.save(torn, np.zeros((3, 1), np.float32))
    assert prepare_features(manifest_of(few_tones), NAMES).n_decoded == 0
    assert not torn.exists()


def test_the_record_contains_format_family_and_parameters(prepared):
    (path,) = folder("log_mel").glob("*.json")
    record = json.loads(path.read_text())["record"]
    assert record["format"] == shard.FORMAT_VERSION
    assert record["about"]["family"] == "log_mel"
    assert record["about"]["parameters"]["n_mels"] == 64
    assert (record["dtype"], record["n_clips"]) == ("float32", 9)


def test_a_family_is_opened_once_in_a_process(prepared):
    assert open_family("rms", hashes_of(prepared)) is open_family("rms", hashes_of(prepared))
