"""`ser corpora doctor`: a summary as text, all findings as JSON and HTML, exit code 1 for a spoiling finding."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import soxr
from typer.testing import CliRunner

from ser_platform.cli import app
from ser_platform.corpora.corpus_lookup import find_corpus, locate_corpus


@pytest.fixture
def doctor():
    """Run the doctor; return exit code and standard output."""

    def run(*words):
        result = CliRunner().invoke(app, ["corpora", "doctor", *map(str, words)])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout

    return run


@pytest.fixture
def tones_to_spoil(tone_corpus, tmp_path):
    return shutil.copytree(tone_corpus, tmp_path / "tones")


def spoil(root):
    shutil.copy(root / "Actor_01/03-01-01-01-01-01-01.wav", root / "Actor_02/03-01-01-02-01-01-02.wav")
    shutil.copy(root / "Actor_01/03-01-01-01-01-01-01.wav", root / "Actor_01/03-01-99-01-01-01-01.wav")


def test_a_sound_corpus_gives_exit_code_0_and_a_page(doctor, tone_corpus, tmp_path):
    code, printed = doctor(tone_corpus)
    assert code == 0
    assert "ravdess: 54 clips" in printed
    assert "no finding would spoil an experiment" in printed
    (page,) = (tmp_path / "runs").glob("doctor-*.html")
    assert page.read_text().startswith("<!doctype html>")
    assert str(page) in printed


def test_a_spoilt_corpus_gives_exit_code_1_and_names_the_speakers(doctor, tones_to_spoil):
    spoil(tones_to_spoil)
    code, printed = doctor(tones_to_spoil)
    assert code == 1
    assert (
        "03-01-01-01-01-01-01 (ravdess-01, neutral) = 03-01-01-02-01-01-02 (ravdess-02, neutral): identical" in printed
    )
    assert "Actor_01/03-01-99-01-01-01-01.wav: unknown emotion '99'" in printed


def test_standard_output_contains_only_json(doctor, tones_to_spoil):
    spoil(tones_to_spoil)
    code, printed = doctor(tones_to_spoil, "--json", "--html", "mine.html")
    report = json.loads(printed)
    assert (code, report["spoils"], report["page"]) == (1, True, "mine.html")
    assert {finding["code"] for finding in report["findings"] if finding["level"] == "spoils"} >= {
        "misfits",
        "same-audio-two-speakers",
    }


def test_label_rules_and_the_limit_of_bad_files_are_applied(doctor, tones_to_spoil):
    (tones_to_spoil / "Actor_01/03-01-01-01-01-01-01.wav").write_bytes(b"RIFF")
    code, _ = doctor(tones_to_spoil, "--max-bad", "0.01")
    assert code == 1
    code, printed = doctor(tones_to_spoil, "--labels", "drop anger", "--json")
    assert (code, set(json.loads(printed)["emotions"])) == (0, {"neutral", "happiness"})


def test_speakers_may_be_found_in_the_path(doctor, tone_corpus, tmp_path):
    for speaker in "ab":
        (tmp_path / "own" / speaker / "joy").mkdir(parents=True)
        shutil.copy(next(tone_corpus.rglob("*.wav")), tmp_path / "own" / speaker / "joy" / "1.wav")
    _, printed = doctor(tmp_path / "own", "--speaker-from", r"^(\w)/", "--json")
    assert json.loads(printed)["speakers"] == ["folder-own-a", "folder-own-b"]


def test_a_file_name_cannot_write_markup_to_the_terminal(doctor, tones_to_spoil):
    soundfile.write(tones_to_spoil / "[red]x\x1b[2J.wav", np.ones(100), 16_000)
    code, printed = doctor(tones_to_spoil)
    assert code == 1
    assert r"[red]x\x1b[2J.wav" in printed
    assert "\x1b[2J" not in printed


def test_many_speakers_are_summed_up(doctor, tmp_path, tone):
    for speaker in range(1, 43):
        for code in ("01", "03"):
            wave = tone(100.0 + speaker, 0.3) + np.random.default_rng(speaker).normal(0, 0.01, 4800)
            path = tmp_path / "many" / f"03-01-{code}-01-01-01-{speaker:02d}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, wave * int(code), 16_000, subtype="FLOAT")
    _, printed = doctor(tmp_path / "many")
    assert "Clips of 42 speakers" in printed
    assert "ravdess-17" not in printed.split("page:")[0].split("beware")[0]


REAL = pytest.mark.corpora


def real(name):
    if locate_corpus(name) is None:
        pytest.skip(f"no {name} under SER_CORPORA")
    return name


@REAL
def test_emodb_is_sound_and_speaker_08_has_no_disgust(doctor):
    code, printed = doctor(real("emodb"), "--json")
    report = json.loads(printed)
    assert (code, report["clips"], len(report["speakers"])) == (0, 535, 10)
    assert report["clips_by_speaker_and_emotion"]["emodb-08"]["disgust"] == 0
    assert report["clips_by_speaker_and_emotion"]["emodb-16"]["boredom"] == 14
    (lacking,) = (finding for finding in report["findings"] if finding["code"] == "missing-classes")
    assert lacking["details"] == ["emodb-08 has no disgust"]
    assert report["recordings"] == []


@REAL
def test_ravdess_is_sound_with_one_clip_twice_and_half_of_neutral(doctor):
    code, printed = doctor(real("ravdess"), "--json")
    report = json.loads(printed)
    assert (code, report["clips"]) == (0, 1440)
    assert report["recordings"] == [
        {"clips": ["03-01-03-01-02-01-07", "03-01-03-01-02-02-07"], "identical": True, "near": []}
    ]
    assert (report["emotions"]["neutral"], set(report["emotions"].values())) == (96, {96, 192})
    assert 0 < report["clipping"]["clips"] < 12


@REAL
def test_each_change_of_a_copy_of_emodb_is_found_and_named(doctor, tmp_path):
    source = find_corpus(real("emodb")).root / "wav"
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in source.glob("*.wav"):
        (copy / path.name).symlink_to(path)
    shutil.copy(source / "03a01Fa.wav", copy / "08a01Fx.wav")  # a copy under another speaker
    (copy / "09a01Wb.wav").rename(copy / "09a01Xb.wav")  # an unknown emotion
    cut = (source / "10a01Wa.wav").read_bytes()
    (copy / "10a01Wa.wav").unlink()
    (copy / "10a01Wa.wav").write_bytes(cut[: len(cut) // 2])
    samples, _ = soundfile.read(source / "11a01Aa.wav")
    soundfile.write(copy / "12a01Ax.ogg", 0.5 * soxr.resample(samples, 16_000, 8000), 8000)  # nearly a copy
    code, printed = doctor(copy, "--json")
    found = {finding["code"]: finding for finding in json.loads(printed)["findings"]}
    assert code == 1
    assert found["same-audio-two-speakers"]["clips"] == ["03a01Fa", "08a01Fx", "11a01Aa", "12a01Ax"]
    assert found["misfits"]["details"] == ["09a01Xb.wav: unknown emotion 'X'; valid are W, L, E, A, F, T, N"]
    assert found["unreadable"]["clips"] == ["10a01Wa"]
    assert found["unreadable"]["level"] == "beware"
    code, printed = doctor(copy)
    assert code == 1
    for name in ("08a01Fx", "09a01Xb", "10a01Wa", "12a01Ax"):
        assert name in printed
