"""`ser corpora list` and `prepare`, and refused options for the corpus and its split."""

import json
import sys
from pathlib import Path

import pytest

from ser_platform import cli
from ser_platform.corpora.datasets import CORPORA


@pytest.fixture
def ser(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `ser`; return exit code, standard output and standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ser", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def test_every_corpus_is_listed_with_its_size_and_how_to_get_it(ser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SER_CORPORA", raising=False)
    code, out, _ = ser("corpora", "list", "--json")
    listed = {entry["name"]: entry for entry in json.loads(out)}
    assert code == 0 and listed.keys() == CORPORA.keys()
    assert (listed["emodb"]["clips"], listed["emodb"]["speakers"], len(listed["emodb"]["emotions"])) == (535, 10, 7)
    assert all(entry["path"] is None and entry["how"] and entry["licence"] for entry in listed.values())


def test_an_installed_corpus_is_listed_with_its_folder(ser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "speech" / "emodb-1.0").mkdir(parents=True)
    monkeypatch.setenv("SER_CORPORA", str(tmp_path / "speech"))
    _, out, _ = ser("corpora", "list")
    assert f"emodb: {tmp_path}/speech/emodb-1.0\n" in out and "ser corpora fetch NAME" in out


def test_prepare_prints_the_split_as_json_and_progress_on_standard_error(ser, tone_corpus: Path) -> None:
    code, out, err = ser("corpora", "prepare", str(tone_corpus), "--labels", "drop happiness", "--json")
    (split,) = json.loads(out)
    assert code == 0
    assert split["protocol"] == "speaker"
    assert [part["clips"] for part in split["parts"]] == [12, 12, 12]
    assert split["parts"][0]["emotions"] == {"neutral": 6, "anger": 6}
    assert "happiness dropped (clips: 18)" in err


def test_prepare_shows_every_fold(ser, tone_corpus: Path) -> None:
    code, out, _ = ser("corpora", "prepare", str(tone_corpus), "--protocol", "loso")
    assert code == 0
    assert out.count("protocol loso fold") == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--protocol", "random"], "--allow-leaky-split"),
        (["--protocol", "kfold"], "unknown protocol 'kfold'; choose from: speaker, loso"),
        (["--labels", "drop glee"], "unknown emotion 'glee'; choose from: neutral"),
        (["--labels", "9"], "'9' is no rule"),
        (["--labels", "drop neutral, drop anger, drop happiness"], "no clip is left"),
        (["--speaker-from", "("], "is not a regular expression"),
        (["--speaker-from", "Actor_.."], "must have one group"),
        (["--speaker-from", "(Actor)"], "is by ravdess-01"),
        (["--speaker-from", "(A)", "--speaker-column", "voice"], "give one"),
        (["--column", "emotion"], "--column takes OURS=THEIRS"),
        (["--as", "klingon"], "unknown corpus 'klingon'"),
        (["--fold", "9", "--protocol", "loso"], "makes folds 1 to 6"),
        (["--protocol", "official"], "ravdess has no official train, dev and test"),
    ],
)
def test_an_impossible_split_is_refused_in_one_line(ser, tone_corpus: Path, words, message) -> None:
    code, _, err = ser("corpora", "prepare", str(tone_corpus), *words)
    lines = [line for line in err.splitlines() if line.startswith("ser: ")]
    assert code == 2 and len(lines) == 1
    assert message in lines[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "pupil", "--corpus", "demo"], "unknown role 'pupil'; choose from: teacher, student"),
        (["train", "student"], "no corpus is given"),
        (["train", "student", "--labels", "7", "--set", "data.labels=7"], "give one"),
        (["train", "student", "--set", "model.name=resnet", "--corpus", "demo"], "unknown model.name 'resnet'"),
        (["evaluate", "ser-student", "--corpus", "demo"], "no registered model 'ser-student'"),
        (["evaluate", "ser-student/9", "--corpus", "demo"], "there is no version 9 of a model ser-student"),
    ],
)
def test_train_and_evaluate_refuse_in_one_line(ser, words, message, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code, _, err = ser(*words)
    lines = [line for line in err.splitlines() if line.startswith("ser: ")]
    assert code == 2 and len(lines) == 1
    assert message in lines[0]


def test_markup_in_names_is_printed_unchanged(ser, tmp_path: Path, tone_corpus: Path) -> None:
    for number, path in enumerate(sorted(tone_corpus.rglob("*.wav"))):
        emotion = {"01": "neutral", "03": "joy", "05": "anger"}[path.name[6:8]]
        target = tmp_path / "own" / f"[b]{path.stem[-2:]}" / emotion / f"{number}.wav"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (target.parent / "[bold]bad.wav").write_bytes(b"no audio")
    code, out, _ = ser("corpora", "prepare", str(tmp_path / "own"), "--speaker-from", "^([^/]+)/")
    assert code == 0
    assert "folder-own-[b]01" in out and "[bold]bad.wav" in out


def test_resume_takes_no_other_option(ser) -> None:
    code, _, err = ser("tune", "--resume", "--labels", "6")
    assert code == 2 and "leave the other options out" in err


def test_a_corpus_given_twice_is_refused(ser) -> None:
    code, _, err = ser("train", "student", "--corpus", "emodb", "--corpus", "ravdess")
    assert code == 2 and "--corpus emodb+ravdess" in err
