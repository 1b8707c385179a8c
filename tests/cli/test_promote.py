"""`ser models promote` between tasks, and the commands that print the speech that a model was trained on."""

import io
import json
from pathlib import Path

import pytest
import soundfile
from mlflow.artifacts import download_artifacts
from rich.console import Console
from typer.testing import CliRunner, Result

from ser_platform.cli import app
from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.errors import PromotionRefused
from ser_platform.features.dataset import DataRequest
from ser_platform.progress import Display
from ser_platform.tracking.mlflow_store import open_client
from ser_platform.tracking.registry import RegisteredVersion, find_alias, find_version
from ser_platform.workflows.train import run_training
from ser_platform.workflows.train_plan import TrainRequest

RIDGE = {"model.name": "ridge", "features.pool": "mean_std", "data.max_seconds": 0.5}
LENIENT, STRICT = "{uar_margin: 1.0}", "{uar_margin: 1.0, size_mb: 0.0001}"


class Place:
    """A store in which models are trained on tones and promoted."""

    def __init__(self, corpus: Path, folder: Path) -> None:
        self.corpus, self.policy = corpus, folder / "policy.yaml"

    def train(self, name: str, **overrides: str) -> str:
        """Train a student on the tones under the name of a corpus; it is the candidate then. Return its version."""
        return self.train_on(DataRequest(CorpusRequest(str(self.corpus), as_name=name)), **overrides)

    def train_on(self, request: DataRequest, **overrides: str) -> str:
        plan = TrainRequest("student", request, RIDGE | overrides, "cpu")
        model = run_training(plan, Display(Console(file=io.StringIO()))).model
        assert model is not None and "candidate" in model.aliases
        return model.version

    def promote(self, *words: str, limits: str = LENIENT) -> Result:
        self.policy.write_text(f"ser-student: {limits}")
        return ser("models", "promote", *(words or ("ser-student",)), "--policy", self.policy)

    @property
    def champion(self) -> str:
        found = find_alias(open_client(), "ser-student", "champion")
        assert found is not None
        return found.version


def ser(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "400"})


@pytest.fixture
def place(tones, tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Place(tone_corpus, tmp_path)


def version(number: str) -> RegisteredVersion:
    return find_version(open_client(), "ser-student", number)


def read_last_decision(number: str, folder: Path) -> str:
    """Return the file with the last decision about a version."""
    run = version(number).run_id
    *_, listed = sorted(open_client().list_artifacts(run, "promotion"), key=lambda file: file.path)
    return Path(download_artifacts(run_id=run, artifact_path=listed.path, dst_path=str(folder))).read_text()


def test_a_champion_of_synthetic_speech_is_replaced_by_a_candidate_of_real_speech(place: Place) -> None:
    demo = place.train("demo", **{"data.labels": "drop happiness"})
    assert place.promote().exit_code == 0
    real = place.train("ravdess")
    refused = place.promote(limits=STRICT)
    assert isinstance(refused.exception, PromotionRefused) and "size: " in str(refused.exception)
    assert place.champion == demo, "the limits of the policy apply"
    done = place.promote()
    assert done.exit_code == 0, done.output
    assert f"the champion ser-student v{demo} is replaced: it was trained on synthetic speech (demo)\n" in done.output
    assert place.champion == real


def test_a_champion_of_another_task_is_replaced_by_the_command_in_the_refusal(place: Place, tmp_path: Path) -> None:
    first = place.train("ravdess")
    assert place.promote().exit_code == 0
    second = place.train("ravdess", **{"data.labels": "drop happiness"})
    refusal = str(place.promote().exception)
    assert refusal.startswith(f"ser-student v{second} is not promoted. task: another task, not compared: without happi")
    assert refusal.endswith(f"to replace the champion ser-student v{first}: ser models promote ser-student --replace")
    assert place.champion == first
    command = refusal.rpartition(": ")[2].split(" ")
    assert "size: " in str(place.promote(*command[3:], limits=STRICT).exception), "the limits of the policy apply"
    assert place.promote(*command[3:]).exit_code == 0
    assert place.champion == second
    assert "another task, not compared" in version(second).tags["promotion"]
    gates = {gate["name"]: gate for gate in json.loads(read_last_decision(second, tmp_path))["gates"]}
    assert gates["task"]["detail"].startswith("another task, not compared: without happiness; ")
    assert (gates["UAR"]["verdict"], gates["UAR"]["detail"]) == ("skipped", "another task, not compared")


def test_a_version_that_is_not_the_candidate_is_named_in_the_command(place: Place) -> None:
    place.train("ravdess")
    assert place.promote().exit_code == 0
    older = place.train("ravdess", **{"data.labels": "drop happiness"})
    place.train("ravdess", **{"data.labels": "drop anger"})
    refusal = str(place.promote(f"ser-student/{older}").exception)
    assert refusal.endswith(f": ser models promote ser-student/{older} --replace")


def make_own_folder(folder: Path, tones: Path, pattern: str = "*.wav", gain: float = 1.0) -> CorpusRequest:
    """Write the tones, times `gain`, into a folder of own recordings; return the request that reads it."""
    for path in tones.rglob(pattern):
        emotion = {"01": "neutral", "03": "happy", "05": "angry"}[path.name[6:8]]
        samples, rate = soundfile.read(path)
        (folder / emotion).mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / emotion / f"{path.stem[-2:]}_{path.name}", gain * samples, rate, subtype="PCM_16")
    return CorpusRequest(str(folder), speaker_from="/([0-9]+)_")


def test_an_own_folder_that_has_grown_is_compared_also_from_another_working_directory(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_own_folder(tmp_path / "calls", place.corpus, "*-01-??.wav")
    monkeypatch.chdir(tmp_path)
    relative = DataRequest(CorpusRequest("calls", speaker_from="/([0-9]+)_"))
    place.train_on(relative)
    assert place.promote().exit_code == 0
    make_own_folder(tmp_path / "calls", place.corpus)
    second = place.train_on(relative)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = place.promote()
    assert done.exit_code == 0, done.output
    assert "task: that of the champion" in done.output and "UAR: gain +" in done.output
    assert place.champion == second


def test_a_champion_that_was_trained_on_the_test_clips_is_replaced_by_the_words_in_the_refusal(
    place: Place, tmp_path: Path
) -> None:
    speech = make_own_folder(tmp_path / "calls", place.corpus)
    place.train_on(DataRequest(speech))
    assert place.promote().exit_code == 0
    second = place.train_on(DataRequest(speech, seed=1))
    refusal = str(place.promote().exception)
    assert "cannot be evaluated on these" in refusal and "without a comparison it takes --force --reason" in refusal
    assert place.promote("ser-student", "--force", "--reason", "split anew").exit_code == 0
    assert place.champion == second


def test_another_own_folder_of_the_same_name_is_another_task(place: Place, tmp_path: Path) -> None:
    first = place.train_on(DataRequest(make_own_folder(tmp_path / "one" / "calls", place.corpus)))
    assert place.promote().exit_code == 0
    place.train_on(DataRequest(make_own_folder(tmp_path / "other" / "calls", place.corpus, gain=-0.9)))
    refusal = str(place.promote().exception)
    assert "corpus folder-calls, not folder-calls (another folder); to replace the champion" in refusal
    assert place.champion == first


def test_models_of_one_task_are_compared(place: Place) -> None:
    first = place.train("ravdess")
    assert place.promote().exit_code == 0
    second = place.train("ravdess")
    done = place.promote("ser-student", "--replace")
    assert done.exit_code == 0, done.output
    assert f"that of the champion ser-student v{first}, so that --replace has no effect" in done.output
    assert "UAR: gain +0.000, interval " in done.output
    assert place.champion == second


def test_a_model_of_synthetic_speech_predicts_with_a_warning_and_is_marked_in_lists(place: Place) -> None:
    number = place.train("demo")
    assert place.promote().exit_code == 0
    clip = next(place.corpus.rglob("*.wav"))
    done = ser("predict", clip, "--json")
    assert done.stderr == (
        f"ser-student v{number} was trained on synthetic speech (demo): its predictions mean nothing for real "
        "recordings\n"
    )
    (answer,) = json.loads(done.stdout)
    assert answer["trained_on"] == "demo"
    assert f"ser-student v{number}, trained on demo (synthetic)" in ser("predict", clip).stdout
    assert "(synthetic)" in ser("models", "list").stdout
    assert "demo (synthetic)" in ser("models", "show", "ser-student").stdout


def test_a_model_of_real_speech_predicts_without_a_warning(place: Place) -> None:
    number = place.train("ravdess")
    done = ser("predict", next(place.corpus.rglob("*.wav")), "--model", "ser-student@candidate")
    assert done.stderr == ""
    assert f"ser-student v{number}, trained on ravdess" in done.stdout
