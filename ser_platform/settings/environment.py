"""Folders and CPU cores, read from the environment at each call, never at import."""

import os
from pathlib import Path

import platformdirs

from ser_platform.files import expand_path


def home() -> Path:
    """Return the folder of caches: `SER_HOME`, else the user's cache folder."""
    return expand_path(os.environ.get("SER_HOME") or platformdirs.user_cache_path("ser")).resolve()


def corpora_folder() -> Path | None:
    """Return the folder in which corpora are found by name (`SER_CORPORA`), or None."""
    given = os.environ.get("SER_CORPORA")
    return expand_path(given).resolve() if given else None


def runs_folder() -> Path:
    """Return `runs/` in the working directory, the folder of studies."""
    return Path.cwd() / "runs"


def slots() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
