"""A command as a job of a Ray cluster: sent with the search spaces that it names, run in a folder that stays.

What is sent is small: the script of `jobs/` and the spaces. The package of a job is removed by Ray sooner or later, so
the job works in `SER_HOME/jobs/NAME` of the node that runs it, where `runs/` and `mlflow.db` are kept, and where a job
of the same name goes on.
"""

import asyncio
import json
import logging
import os
import shlex
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from ser_platform.errors import UserError, WorkFailed, first_line
from ser_platform.settings import home
from ser_platform.shipped_folders import find_shipped

VERBS = ("tune", "train")
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
JOB_NAME_VARIABLE = "SER_JOB_NAME"
TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
SPACES_FOLDER = "search_spaces"
SCRIPTS_FOLDER = find_shipped("jobs")
POLL_INTERVAL_S = 0.5
SUBMIT_TIMEOUT_S = 30.0
NOT_READY_MESSAGE = "No available agent"  # what Ray says while the head's agent starts


@dataclass(frozen=True)
class SubmittedJob:
    """A job on its way. `name` is that of its folder, `id` Ray's."""

    name: str
    id: str
    address: str


def find_address() -> str:
    """Return where jobs are taken: `RAY_API_SERVER_ADDRESS`, `RAY_ADDRESS` where it is a URL, else this machine."""
    given = (os.environ.get(name, "") for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"))
    return next((address for address in given if _is_http(address)), DEFAULT_ADDRESS)


def connect(address: str) -> JobSubmissionClient:
    """Return a client of the cluster's job server.

    Raises:
        UserError: nothing there takes jobs, or not ours.
    """
    if not _is_http(address):
        raise UserError(f"--address {address!r}: give the address of the cluster's dashboard, like {DEFAULT_ADDRESS}")
    logging.getLogger("ray.dashboard.modules.dashboard_sdk").setLevel(logging.WARNING)  # it sets its own level
    logging.getLogger("ray._private.runtime_env").setLevel(logging.WARNING)
    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, AuthenticationError) as error:
        raise UserError(f"--address {address}: no Ray cluster takes jobs there ({first_line(error)})") from error


def submit(client: JobSubmissionClient, verb: str, words: Sequence[str], name: str | None = None) -> SubmittedJob:
    """Send `ser VERB WORDS` to run as a job.

    Raises:
        UserError: a search space that the words name is no file.
        WorkFailed: the cluster has refused the job.
    """
    name = name or f"{verb}-{time.strftime('%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
    if Path(name).name != name or name.startswith("."):
        raise UserError(f"--name {name!r}: give the name of a folder, without slashes")
    with tempfile.TemporaryDirectory() as package:
        shutil.copy(SCRIPTS_FOLDER / f"{verb}.py", package)
        sent = pack_spaces(words, Path(package) / SPACES_FOLDER)
        environment: dict[str, object] = {"working_dir": package, "env_vars": _make_environment(name)}
        submission = _submit_when_ready(client, shlex.join(["python", f"{verb}.py", *sent]), name, environment)
    return SubmittedJob(name, submission, client.get_address())


def _submit_when_ready(client: JobSubmissionClient, command: str, name: str, environment: dict[str, object]) -> str:
    """Have the cluster take a job; return its id. A cluster that has just started is given time to be ready."""
    deadline = time.monotonic() + SUBMIT_TIMEOUT_S
    while True:
        try:
            return client.submit_job(
                entrypoint=command, submission_id=f"{name}-{uuid.uuid4().hex[:6]}", runtime_env=environment
            )
        except (ConnectionError, RuntimeError) as error:
            if NOT_READY_MESSAGE not in str(error) or time.monotonic() > deadline:
                raise WorkFailed(f"{client.get_address()} has refused the job: {first_line(error)}") from error
        time.sleep(POLL_INTERVAL_S)


def pack_spaces(words: Sequence[str], folder: Path) -> list[str]:
    """Copy the search spaces that words name into `folder`; return the words that find them there.

    Raises:
        UserError: there is no such file.
    """
    folder.mkdir(parents=True)
    sent = []
    for word in words:
        path = _space_path(word)
        if path.is_file() and (folder / path.name).exists():
            raise UserError(f"{word!r}: another search space of that name is given; a job takes one along")
        if not path.is_file() and path == Path(word) and not word.startswith("-"):
            raise UserError(f"no search space {word!r}: a job takes along files of this folder")
        sent.append(_copy_space(word, folder))
    return sent


def _space_path(word: str) -> Path:
    """Return the file that a word stands for if it names a search space."""
    return Path(word) if Path(word).suffix in (".yaml", ".yml") else Path(SPACES_FOLDER) / f"{word}.yaml"


def _copy_space(word: str, folder: Path) -> str:
    """Copy the search space that a word names, if it does, into `folder`; return the word that finds it there."""
    path = _space_path(word)
    if not path.is_file():
        return word
    shutil.copy(path, folder)
    return f"{SPACES_FOLDER}/{path.name}" if path == Path(word) else word


def follow(client: JobSubmissionClient, job: SubmittedJob, write: Callable[[str], None]) -> int:
    """Tell the job's output until it ends; return its exit code, 1 where it was stopped or has not started.

    Raises:
        WorkFailed: the cluster is gone.
    """
    try:
        asyncio.run(_stream_logs(client, job, write))
        while not (status := client.get_job_status(job.id)).is_terminal():
            time.sleep(POLL_INTERVAL_S)
        if status == JobStatus.SUCCEEDED:
            return 0
        info = client.get_job_info(job.id)
    except (ConnectionError, RuntimeError, OSError) as error:
        raise WorkFailed(
            f"lost {job.address}: {first_line(error)}; follow again with: {format_commands(job)[0]}"
        ) from error
    if info.driver_exit_code in (1, 2):
        return int(info.driver_exit_code)
    write(f"{job.id}: {info.message}\n")
    return 1


async def _stream_logs(client: JobSubmissionClient, job: SubmittedJob, write: Callable[[str], None]) -> None:
    async for lines in client.tail_job_logs(job.id):
        write(lines)


def format_commands(job: SubmittedJob) -> tuple[str, str]:
    """Return the commands that follow a job and that stop it."""
    at = f"--address {job.address} {job.id}"
    return f"ray job logs --follow {at}", f"ray job stop {at}"


def enter_job_folder(words: Sequence[str]) -> list[str]:
    """Go to the job's folder under `SER_HOME`, with the search spaces that came along; nothing outside of a Ray job.

    Returns:
        The words of the command, which find their search spaces there.
    """
    name = _find_job_name(os.environ)
    if name is None:
        return list(words)
    folder, brought = home() / "jobs" / name, Path.cwd() / SPACES_FOLDER
    spaces = folder / SPACES_FOLDER
    spaces.mkdir(parents=True, exist_ok=True)
    if brought.is_dir():
        shutil.copytree(brought, spaces, dirs_exist_ok=True)
    sent = [_copy_space(word, spaces) for word in words]
    os.chdir(folder)
    print(f"job {name}: runs and models are kept in {folder}", flush=True)
    return sent


def _find_job_name(environment: Mapping[str, str]) -> str | None:
    """Return the name that the job was given, else Ray's id of its submission; None outside of a job."""
    if JOB_NAME_VARIABLE in environment:
        return environment[JOB_NAME_VARIABLE]
    ray_config = json.loads(environment.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    found = ray_config.get("metadata", {}).get("job_submission_id")
    return None if found is None else str(found)


def _make_environment(name: str) -> dict[str, str]:
    tracking = os.environ.get(TRACKING_VARIABLE, "")
    return {JOB_NAME_VARIABLE: name} | (
        {TRACKING_VARIABLE: tracking} if _is_http(tracking) else {}
    )  # a file of this machine stays here


def _is_http(address: str) -> bool:
    return address.startswith(("http://", "https://"))
