"""A registered version as an MLflow pyfunc and served: paths, bytes, samples, bad input, and altered files."""

import asyncio
import base64
import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
import pytest
import soundfile
from mlflow.utils import requirements_utils
from safetensors.torch import load_file, save_file

from ser_platform.errors import BundleError
from ser_platform.inference.bundle import DIGESTS_FILE
from ser_platform.inference.predictor import Predictor
from ser_platform.tracking.mlflow_store import Client, find_or_create_experiment, open_client
from ser_platform.tracking.pyfunc import BundleModel, RefusedInput
from ser_platform.tracking.registry import PIP_REQUIREMENTS, find_version, load_bundle, register
from ser_platform.tracking.scoring_app import make_app
from tests.inference.test_bundle import made_bundle

NAME = "ser-student"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        client = open_client()
        run = client.create_run(find_or_create_experiment(client, "ser-made"), tags={"study": "made"})
        digest = made_bundle("lite_cnn").write(folder / "bundle", "# a card")
        register(client, NAME, run.info.run_id, folder / "bundle", digest, {"trial": "0"}, "# a card")
        yield client


@pytest.fixture(autouse=True)
def _there(store: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)


@pytest.fixture
def clip(tmp_path: Path, tone) -> Path:
    soundfile.write(tmp_path / "clip.wav", tone(300.0, 1.0), 16_000)
    return tmp_path / "clip.wav"


def test_path_bytes_and_samples_give_the_same_prediction(clip: Path, tone) -> None:
    model = mlflow.pyfunc.load_model(f"models:/{NAME}/1")
    content = base64.b64encode(clip.read_bytes()).decode()
    samples, _ = soundfile.read(clip)
    tables = [{"path": [str(clip)]}, {"audio": [content]}, {"samples": [samples.tolist()], "sample_rate": [16_000]}]
    answers = [model.predict(pd.DataFrame(each))[0] for each in tables]
    assert answers[0]["emotion"] in answers[0]["probabilities"]
    assert sum(answers[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    for answer in answers[1:]:
        assert answer["probabilities"] == pytest.approx(answers[0]["probabilities"], abs=1e-4)


@pytest.mark.parametrize("n", [1, 64])
def test_one_or_many_rows_are_answered_in_order(clip: Path, tmp_path: Path, tone, n: int) -> None:
    soundfile.write(tmp_path / "other.wav", tone(600.0, 0.6), 16_000)
    paths = [str(tmp_path / "other.wav") if number % 2 else str(clip) for number in range(n)]
    answers = mlflow.pyfunc.load_model(f"models:/{NAME}/1").predict(pd.DataFrame({"path": paths}))
    assert len(answers) == n
    assert all(answer == answers[number % 2] for number, answer in enumerate(answers))


def test_a_table_without_speech_is_refused_with_its_columns() -> None:
    with pytest.raises(RefusedInput, match="input has no column of speech; it needs one column of: path"):
        BundleModel(Predictor(made_bundle("lite_cnn"))).predict(pd.DataFrame({"sound": ["a"]}))


Answer = tuple[int, dict[str, Any]]


@pytest.fixture(scope="module")
def post(store: Client) -> Callable[..., Answer]:
    """A function that posts a body to the served model; it returns the status and the JSON of the answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("SER_SERVED_MODEL", f"models:/{NAME}/1")
        app = make_app()

    def send_request(body: bytes, media: str = "application/json") -> Answer:
        sent: list[dict[str, Any]] = []
        requests = [{"type": "http.request", "body": body}]

        async def receive() -> dict[str, Any]:
            if not requests:
                await asyncio.Event().wait()
            return requests.pop()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        headers = [(b"content-type", media.encode())] if media else []
        scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": headers, "query_string": b""}
        asyncio.run(app(scope, receive, send))
        return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))

    return send_request


def test_the_server_answers_paths_and_bytes(post: Callable[..., Answer], clip: Path) -> None:
    content = base64.b64encode(clip.read_bytes()).decode()
    answers = [
        post(json.dumps({"dataframe_records": [row]}).encode()) for row in ({"path": str(clip)}, {"audio": content})
    ]
    assert [code for code, _ in answers] == [200, 200]
    listed = post(json.dumps({"inputs": {"path": [str(clip)] * 2}}).encode())
    assert listed == (200, {"predictions": answers[0][1]["predictions"] * 2})
    (first,), (second,) = (answer["predictions"] for _, answer in answers)
    assert first == second
    assert first["emotion"] in first["probabilities"]


BAD_REQUESTS: dict[str, tuple[bytes, str, int, str]] = {
    "a file in place of JSON": (b"RIFF\xff\xfe", "application/json", 400, "the body is not JSON"),
    "an empty body": (b"", "application/json", 400, "the body is not JSON"),
    "brackets without end": (b"[" * 100_000, "application/json", 400, "the body is not JSON"),
    "a file": (b"RIFF\xff", "audio/wav", 415, "the Content-Type is audio/wav; send application/json"),
    "no content type": (b"{}", "", 415, "the Content-Type is missing; send application/json"),
    "a list": (b"[]", "application/json", 400, "must be a JSON dictionary"),
    "no table": (b'{"path": "a.wav"}', "application/json", 400, "must be a JSON dictionary"),
    "a table that is a word": (b'{"dataframe_records": "a.wav"}', "application/json", 400, "Dataframe records format"),
    "rows that are words": (b'{"instances": ["a.wav"]}', "application/json", 400, "it needs one column of: path"),
    "another column": (b'{"dataframe_records": [{"sound": 1}]}', "application/json", 400, "has no column of speech"),
    "two columns of speech": (
        b'{"dataframe_records": [{"path": "a.wav", "audio": ""}]}',
        "application/json",
        400,
        "has path and audio",
    ),
    "a missing file": (
        b'{"dataframe_records": [{"path": "a.wav"}]}',
        "application/json",
        400,
        "row 1: a.wav: no such file",
    ),
    "a number as path": (b'{"dataframe_records": [{"path": 3}]}', "application/json", 400, "row 1: path is 3"),
    "a path as bytes": (
        b'{"dataframe_records": [{"audio": "a.wav"}]}',
        "application/json",
        400,
        "row 1: audio 'a.wav' is not base64 of the bytes of a file; a path belongs in the column path",
    ),
    "bytes of no audio": (
        b'{"dataframe_records": [{"audio": "aGVsbG8gd29ybGQ="}]}',
        "application/json",
        400,
        "row 1: audio: ",
    ),
    "no bytes": (b'{"dataframe_records": [{"audio": ""}]}', "application/json", 400, "row 1: audio is empty"),
    "no samples": (b'{"dataframe_records": [{"samples": []}]}', "application/json", 400, "row 1: samples [] at"),
    "samples of words": (
        b'{"dataframe_records": [{"samples": ["a"]}]}',
        "application/json",
        400,
        "Failed to convert column samples",
    ),
}


@pytest.mark.parametrize(("body", "media", "code", "sentence"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_bad_input_is_answered_with_one_sentence(
    post: Callable[..., Answer], body: bytes, media: str, code: int, sentence: str
) -> None:
    status, answer = post(body, media)
    assert status == code
    assert answer.keys() == {"error_code", "message"}
    assert sentence in answer["message"]
    assert "\n" not in answer["message"] and len(answer["message"]) <= 300


def test_a_model_that_does_not_exist_ends_the_server_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SER_SERVED_MODEL", "models:/nothing@champion")
    with pytest.raises(SystemExit, match="models:/nothing@champion cannot be served: .*see: ser models list"):
        make_app()


def find_model_folder(store: Client) -> Path:
    """Return the folder of the registered model in the store."""
    place = store.get_run(find_version(store, NAME, "1").run_id).info.artifact_uri
    return Path(place.removeprefix("file://")) / "model"


def test_no_file_is_a_pickle_and_requirements_are_listed(store: Client) -> None:
    for path in (path for path in find_model_folder(store).rglob("*") if path.is_file()):
        assert not path.read_bytes().startswith((b"\x80", b"PK")), path
    assert PIP_REQUIREMENTS[0] in (find_model_folder(store) / "requirements.txt").read_text().split()


def test_no_installed_version_of_this_package_makes_mlflow_warn(monkeypatch, caplog) -> None:
    monkeypatch.setattr(requirements_utils, "_get_installed_version", lambda package, module=None: "0.0.1")
    monkeypatch.setattr(logging.getLogger("mlflow"), "propagate", True)
    requirements_utils.warn_dependency_requirement_mismatches([*PIP_REQUIREMENTS, "pandas==9"])
    (warning,) = {each.message for each in caplog.records if "mismatches" in each.message}
    assert "pandas" in warning and "ser-platform" not in warning


def test_a_weight_that_was_changed_is_refused_though_the_manifest_was_rewritten(store: Client) -> None:
    registered = find_version(store, NAME, "1")
    (folder,) = (path.parent for path in find_model_folder(store).rglob("bundle.json"))
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    try:
        weights = load_file(folder / "model.safetensors")
        name = next(iter(weights))
        save_file(weights | {name: weights[name] + 1}, folder / "model.safetensors")
        with pytest.raises(BundleError, match="model.safetensors was altered"):
            load_bundle(store, registered)
        lines = []
        for line in (folder / DIGESTS_FILE).read_text().splitlines():
            file = line.split("  ")[1]
            lines.append(f"{hashlib.sha256((folder / file).read_bytes()).hexdigest()}  {file}\n")
        (folder / DIGESTS_FILE).write_text("".join(lines))
        with pytest.raises(BundleError, match=r"MANIFEST.sha256 was altered: its digest is \w+, registered is"):
            load_bundle(store, registered)
        with pytest.raises(BundleError, match="was altered: no registered version has its digest"):
            mlflow.pyfunc.load_model(f"models:/{NAME}/1")
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    assert load_bundle(store, registered).labels == made_bundle().labels, "the original files are accepted"
