"""Wrong options of `ser train` are one line on standard error with exit code 2, before any file is decoded."""

import sys

import pytest

from ser_platform import cli
from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.features.dataset import DataRequest
from ser_platform.settings import slots
from ser_platform.workflows.train_plan import TrainRequest


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `ser train` with wrong input; return its one line on standard error."""

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["ser", "train", *words])
        for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        (line,) = captured.err.strip().splitlines()
        return str(line)

    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "0"], "--workers 0: give at least 1"),
        (["--workers", str(slots() + 1)], f"this machine has slots for {slots()} (CPU cores)"),
        (["--workers", "2", "--device", "mps"], "mps has one worker"),
        (["--workers", "1", "--set", "model.name=svm_linear"], "svm_linear is fitted in one step"),
        (["--init", "ser-teacher@champion"], "no registered model 'ser-teacher'"),
        (["--init", "."], "contains no model"),
        (["--resume"], "nothing to resume here; start with: ser train"),
    ],
)
def test_a_wrong_option_is_refused(refused, words: list[str], message: str) -> None:
    assert message in refused("teacher", "--corpus", "demo", *words)


def test_the_role_is_required(refused) -> None:
    assert "ser train teacher, or ser train student" in refused()
    assert "unknown role 'professor'" in refused("professor")


def test_resume_refuses_another_command_and_a_finished_training(refused) -> None:
    plan = TrainRequest("teacher", DataRequest(CorpusRequest("demo")), {"seed": 1}, name="train-teacher-demo")
    plan.save()
    assert "train-teacher-demo with its original options: seed was 1, is 2" in refused("--resume", "--set", "seed=2")
    assert "--role was teacher, is student" in refused("student", "--resume")
    assert "--corpus was demo, is emodb" in refused("--resume", "--corpus", "emodb")
    plan.remove_folder()
    assert "nothing to resume here" in refused("teacher", "--resume")
