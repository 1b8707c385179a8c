"""Reads, writes and digests files. Writes are atomic: a kill leaves the old content or the new content."""

import contextlib
import errno
import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ser_platform.errors import UserError, WorkFailed


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` that replaces it when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{path.suffix}")
    temporary.touch(exist_ok=False)  # not mkstemp: only the owner can read its files
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_disk_full(error: OSError) -> bool:
    """Return whether the error is a full disk or an exhausted quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def report_full_disk(describe: Callable[[], str]) -> Iterator[None]:
    """Raise WorkFailed with the message that `describe` returns where the block finds the disk full."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise WorkFailed(describe()) from error


def remove_torn_files(folder: Path) -> None:
    """Remove the temporary files of killed writes to `folder`; no process may write there meanwhile."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{32}(\.\w+)?", path.name):
            path.unlink(missing_ok=True)


def expand_path(text: str | Path) -> Path:
    """Return a path from user input, with `~` expanded.

    Raises:
        UserError: there is no such user, or no file can have such a name.
    """
    try:
        path = Path(text).expanduser()
        path.exists()
    except (RuntimeError, OSError, ValueError) as error:
        raise UserError(f"{str(text)[:100]!r} is no path: {getattr(error, 'strerror', None) or error}") from error
    return path


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` as JSON."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        WorkFailed: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WorkFailed(f"{path} is damaged ({error}); remove it") from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(content: Any, length: int = 64) -> str:
    """Return the first `length` hex digits of the SHA-256 of `content` as canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]
