"""`ser features`: list, extract, verify, gc."""

import json

import pytest
from typer.testing import CliRunner

from ser_platform.cli import app
from ser_platform.errors import SerError
from ser_platform.features.store.folders import families_folder


@pytest.fixture
def ser():
    """Run `ser features`; return standard output."""

    def run(*words: object) -> str:
        result = CliRunner().invoke(app, ["features", *map(str, words)])
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return run


def test_the_list_is_empty_without_stored_features(ser):
    assert json.loads(ser("list", "--json")) == []
    assert "0.00 GB" in ser("list")


def test_extracted_features_are_listed_with_parameters_size_and_last_use(ser, few_tones):
    printed = ser("extract", few_tones, "--sets", "log_mel, zcr")
    assert "ravdess: log_mel, zcr of 9 clips are stored; 9 files decoded" in printed
    mel, zcr = json.loads(ser("list", "--json"))
    assert (mel["family"], mel["kind"], mel["dtype"], mel["clips"]) == ("log_mel", "LogMel", "float32", 9)
    assert mel["parameters"]["n_mels"] == 64
    assert mel["bytes"] > zcr["bytes"] > 0
    assert mel["last_used"][:2] == "20"
    assert mel["readable"] is True
    table = ser("list")
    assert "n_mels 64" in table
    assert "hop_length 160" in table


def test_the_default_sets_are_extracted_where_none_is_given(ser, few_tones):
    report = json.loads(ser("extract", few_tones, "--json"))
    assert report["sets"] == ["log_mel", "mfcc", "zcr", "rms", "waveform"]
    assert (report["corpus"], report["clips"], report["decoded"]) == ("ravdess", 9, 9)
    assert json.loads(ser("extract", few_tones, "--json"))["decoded"] == 0


def test_half_precision_is_a_separate_family(ser, few_tones):
    ser("extract", few_tones, "--sets", "log_mel", "--dtype", "float16")
    ser("extract", few_tones, "--sets", "log_mel")
    assert sorted(entry["dtype"] for entry in json.loads(ser("list", "--json"))) == ["float16", "float32"]


def test_an_unknown_set_is_refused_with_the_valid_ones(ser, few_tones):
    with pytest.raises(SerError, match="unknown feature set 'mels'; choose from: .*log_mel"):
        ser("extract", few_tones, "--sets", "mels")


def test_jobs_sets_the_number_of_processes(ser, few_tones):
    assert json.loads(ser("extract", few_tones, "--sets", "rms", "--jobs", 2, "--json"))["decoded"] == 9


def test_verify_reports_altered_features(ser, few_tones):
    ser("extract", few_tones, "--sets", "rms")
    assert "agree with their digests" in ser("verify")
    (index,) = families_folder().glob("rms*/*.clips.npy")
    index.write_bytes(index.read_bytes()[:-1] + b"x")
    with pytest.raises(SerError, match="damaged"):
        ser("verify", "--sets", "rms")


def test_a_dry_run_of_gc_prints_the_size_it_would_free(ser, few_tones):
    ser("extract", few_tones, "--sets", "rms")
    would = json.loads(ser("gc", "--to", 0, "--dry-run", "--json"))
    assert would["freed_bytes"] > 0
    assert "would be freed" in ser("gc", "--to", 0, "--dry-run")
    assert json.loads(ser("list", "--json")) != []
    assert "0.0 MB left" in ser("gc", "--to", 0)
    assert json.loads(ser("list", "--json")) == []


def test_gc_keeps_recently_used_features(ser, few_tones):
    ser("extract", few_tones, "--sets", "rms")
    assert json.loads(ser("gc", "--older-than", 1, "--json"))["freed_bytes"] == 0
    assert len(json.loads(ser("list", "--json"))) == 1


def test_a_store_of_another_version_is_listed_as_such(ser):
    (families_folder() / "log_mel-0123456789ab").mkdir(parents=True)
    (entry,) = json.loads(ser("list", "--json"))
    assert (entry["family"], entry["readable"], entry["dtype"]) == ("log_mel", False, None)
    assert "another version" in ser("list")
