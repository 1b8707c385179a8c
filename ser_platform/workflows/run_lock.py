"""One tuning at a time in a working directory: two would write one plan."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from ser_platform.errors import UserError
from ser_platform.settings import runs_folder


@contextlib.contextmanager
def hold_tuning_lock() -> Iterator[None]:
    """Be the only tuning of the working directory while the block lasts.

    Raises:
        UserError: another process is tuning here.
    """
    folder = runs_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".tune.lock").open("a+", encoding="utf-8") as file:
        try:
            # Unlike `flock`, which children inherit: one that outlives a killed tuning must not keep the lock.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise UserError(
                f"a tuning is running in this folder (process {owner}): wait until it ends, or tune in another folder"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
