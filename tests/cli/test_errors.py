"""Wrong input is one line on standard error with exit code 2, without a traceback."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_platform import cli


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `ser` with wrong input; return its one line on standard error."""

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["ser", *words])
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2
        printed = capsys.readouterr().err.strip().splitlines()
        assert len(printed) == 1, printed
        return printed[0]

    return run


def test_an_unknown_corpus_is_refused_with_the_known_ones(refused) -> None:
    line = refused("tune", "--corpus", "klingon")
    assert "'klingon'" in line
    assert "emodb" in line


def test_the_message_for_a_missing_corpus_names_the_variable(refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SER_CORPORA", raising=False)
    assert "SER_CORPORA" in refused("tune", "--corpus", "emodb")


def test_an_empty_folder_is_refused(refused, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no audio" in refused("tune", "--corpus", str(tmp_path / "empty"))


def test_an_empty_folder_is_refused_by_predict(refused, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "contains no audio" in refused("predict", str(tmp_path / "empty"))


def test_an_unknown_key_in_a_search_space_is_refused_with_line_and_choices(refused, tmp_path: Path) -> None:
    space = tmp_path / "mine.yaml"
    space.write_text("role: student\nspace:\n  optimizer.learning_rate: {choice: [1]}\n")
    line = refused("tune", str(space))
    assert f"{space}:3" in line
    assert "optimizer.lr" in line


def test_a_setting_by_another_word_is_refused_with_its_name(refused) -> None:
    line = refused("tune", "student", "--set", "hidden_dim=3")
    assert line.endswith(
        "unknown setting 'hidden_dim'; did you mean model.hidden_size? `ser schema settings` prints all"
    )


def test_a_model_in_capitals_is_refused_with_its_name(refused) -> None:
    assert refused("tune", "student", "--set", "model.name=MLP").endswith("did you mean mlp?")


def test_a_setting_of_the_whole_study_cannot_be_searched(refused, tmp_path: Path) -> None:
    space = tmp_path / "mine.yaml"
    space.write_text("role: student\nspace:\n  data.folds: {choice: [0, 3]}\n")
    assert f"{space}:3: data.folds is the same in all trials of a study; move it to base" in refused("tune", str(space))


def test_an_unknown_search_space_is_refused_with_the_known_ones(refused) -> None:
    line = refused("tune", "professor")
    assert "teacher" in line
    assert "student" in line


def test_an_unknown_setting_is_refused(refused) -> None:
    assert "unknown setting 'colour'" in refused("tune", "--set", "colour=red")


def test_the_message_for_a_missing_champion_names_the_next_command(refused, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "clip.wav", np.sin(np.arange(16_000) * 0.1), 16_000)
    line = refused("predict", str(tmp_path / "clip.wav"))
    assert "ser-student" in line
    assert "ser tune" in line


def test_a_file_that_does_not_exist_is_refused(refused) -> None:
    assert "nowhere.wav: no such file" in refused("predict", "nowhere.wav")


def test_too_many_unreadable_files_are_refused_with_their_number(refused, tone_corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "half-bad"
    for number, path in enumerate(sorted(tone_corpus.rglob("*.wav"))[::5][:10]):
        folder.mkdir(exist_ok=True)
        (folder / path.name).write_bytes(b"no audio" if number < 2 else path.read_bytes())
    line = refused("corpora", "prepare", str(folder))
    assert "2 of 10 files cannot be used" in line
    assert "--max-bad" in line


def test_resume_without_an_interrupted_tuning_is_refused(refused) -> None:
    assert "nothing to resume" in refused("tune", "--resume")


def test_an_unknown_study_is_refused(refused) -> None:
    assert "unknown study 'x'" in refused("studies", "show", "x")


def test_promotion_without_a_model_is_refused(refused) -> None:
    assert "--all" in refused("models", "promote")


def test_an_unknown_architecture_is_refused_before_anything_starts(refused, tmp_path: Path) -> None:
    assert "cnn_bilstm" in refused("tune", "--set", "model.name=perceptron")
    assert not (tmp_path / "runs").exists()


def test_a_repeated_key_in_a_space_is_refused(refused, tmp_path: Path) -> None:
    space = tmp_path / "twice.yaml"
    space.write_text("role: student\nrole: teacher\n")
    assert f"{space}:2: 'role' is given twice" in refused("tune", str(space))


def test_the_same_space_twice_is_refused(refused) -> None:
    assert "given twice" in refused("tune", "teacher", "teacher")


def test_a_damaged_request_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "tune.json").write_text('{"spaces": [')
    monkeypatch.setattr(sys, "argv", ["ser", "tune", "--resume"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert "tune.json is damaged" in capsys.readouterr().err


def test_an_invalid_model_name_is_refused(refused, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "clip.wav", np.sin(np.arange(16_000) * 0.1), 16_000)
    assert "NAME@ALIAS" in refused("predict", "--model", "x'y", str(tmp_path / "clip.wav"))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["tune", "--trials", "0"], ["'0'", "'--trials'", "1", "see: ser tune --help"]),
        (["corpora", "prepare", "demo", "--max-bad", "x"], ["'x'", "'--max-bad'", "see: ser corpora prepare --help"]),
        (["predict"], ["missing argument 'FILE_OR_FOLDER", "see: ser predict --help"]),
        (["tune", "--trails", "3"], ["--trails", "--trials", "see: ser tune --help"]),
        (["train", "teacher", "--device"], ["'--device'"]),
        (["tuna"], ["'tuna'", "choose from: corpora, features, tune, ", "see: ser --help"]),
        (["models", "promoted"], ["'promoted'", "rollback", "see: ser models --help"]),
    ],
)
def test_a_wrong_option_is_one_line_with_the_help_to_read(refused, words: list[str], parts: list[str]) -> None:
    line = refused(*words)
    assert line.startswith("ser: ")
    assert [part for part in parts if part not in line] == []


def test_only_debug_shows_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ser", "--debug", "tune", "--trials", "0"])
    with pytest.raises(Exception, match="trials|greater|range"):
        cli.main()
