"""Submission of a command as a job of a Ray cluster, with the search spaces that it names.

Only the script of `jobs/` and the spaces are sent. Ray removes a job's package at some time, so the job works in
`SER_HOME/jobs/NAME` of the node that runs it: `runs/` and `mlflow.db` are stored there, and a later job with the same
name continues there.
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
NOT_READY_MESSAGE = "No available agent"  # in Ray's error while the head node's agent starts


@dataclass(frozen=True)
class SubmittedJob:
    """A submitted job. `name` is the name of its folder, `id` Ray's submission id."""

    name: str
    id: str
    address: str


def find_address() -> str:
    """Return the job server's address: `RAY_API_SERVER_ADDRESS`, `RAY_ADDRESS` if a URL, or `DEFAULT_ADDRESS`."""
    given = (os.environ.get(name, "") for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"))
    return next((address for address in given if _is_http(address)), DEFAULT_ADDRESS)


def connect(address: str) -> JobSubmissionClient:
    """Return a client of the cluster's job server.

    Raises:
        UserError: no job server answers there, or it rejects the connection.
    """
    if not _is_http(address):
        raise UserError(f"--address {address!r}: give the address of the cluster's dashboard, like {DEFAULT_ADDRESS}")
    logging.getLogger("ray.dashboard.modules.dashboard_sdk").setLevel(logging.WARNING)  # it sets its own level
    logging.getLogger("ray._private.runtime_env").setLevel(logging.WARNING)
    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, AuthenticationError) as error:
        raise UserError(f"--address {address}: no Ray cluster accepts jobs there ({first_line(error)})") from error


def submit(client: JobSubmissionClient, verb: str, words: Sequence[str], name: str | None = None) -> SubmittedJob:
    """Submit `ser VERB WORDS` as a job.

    Raises:
        UserError: `name` is not a folder name, or a search space among the words is no file.
        WorkFailed: the cluster rejected the job.
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
    """Submit a job and return its id; wait up to `SUBMIT_TIMEOUT_S` for a cluster that is starting."""
    deadline = time.monotonic() + SUBMIT_TIMEOUT_S
    while True:
        try:
            return client.submit_job(
                entrypoint=command, submission_id=f"{name}-{uuid.uuid4().hex[:6]}", runtime_env=environment
            )
        except (ConnectionError, RuntimeError) as error:
            if NOT_READY_MESSAGE not in str(error) or time.monotonic() > deadline:
                raise WorkFailed(f"{client.get_address()} rejected the job: {first_line(error)}") from error
        time.sleep(POLL_INTERVAL_S)


def pack_spaces(words: Sequence[str], folder: Path) -> list[str]:
    """Copy the search spaces among the words into `folder`; return the words with paths relative to its parent.

    Raises:
        UserError: a search space is no file, or two have the same file name.
    """
    folder.mkdir(parents=True)
    sent = []
    for word in words:
        path = _find_space_path(word)
        if path.is_file() and (folder / path.name).exists():
            raise UserError(f"{word!r}: two search spaces have this file name; rename one of them")
        if not path.is_file() and path == Path(word) and not word.startswith("-"):
            raise UserError(f"no search space {word!r}: give a file, or the name of one in {SPACES_FOLDER}/")
        sent.append(_copy_space(word, folder))
    return sent


def _find_space_path(word: str) -> Path:
    """Return the file of a word if the word is a search space."""
    return Path(word) if Path(word).suffix in (".yaml", ".yml") else Path(SPACES_FOLDER) / f"{word}.yaml"


def _copy_space(word: str, folder: Path) -> str:
    """Copy the search space of a word into `folder`; return the word for it there, or `word` if it is no space."""
    path = _find_space_path(word)
    if not path.is_file():
        return word
    shutil.copy(path, folder)
    return f"{SPACES_FOLDER}/{path.name}" if path == Path(word) else word


def follow(client: JobSubmissionClient, job: SubmittedJob, write: Callable[[str], None]) -> int:
    """Write the job's output until it ends; return its exit code, 1 if it was stopped or did not start.

    Raises:
        WorkFailed: the cluster was lost.
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
    """Return the command that follows a job and the one that stops it."""
    at = f"--address {job.address} {job.id}"
    return f"ray job logs --follow {at}", f"ray job stop {at}"


def enter_job_folder(words: Sequence[str]) -> list[str]:
    """Change to the job's folder under `SER_HOME` and copy the submitted search spaces there; do nothing outside a job.

    Returns:
        The words of the command, with the paths of the copied search spaces.
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
    print(f"job {name}: runs and models are stored in {folder}", flush=True)
    return sent


def _find_job_name(environment: Mapping[str, str]) -> str | None:
    """Return the job's name, else Ray's submission id; None outside a job."""
    if JOB_NAME_VARIABLE in environment:
        return environment[JOB_NAME_VARIABLE]
    ray_config = json.loads(environment.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    found = ray_config.get("metadata", {}).get("job_submission_id")
    return None if found is None else str(found)


def _make_environment(name: str) -> dict[str, str]:
    tracking = os.environ.get(TRACKING_VARIABLE, "")
    # A tracking store in a file of this machine is not readable from the cluster.
    return {JOB_NAME_VARIABLE: name} | ({TRACKING_VARIABLE: tracking} if _is_http(tracking) else {})


def _is_http(address: str) -> bool:
    return address.startswith(("http://", "https://"))
