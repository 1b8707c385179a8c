"""A lock that allows one tuning at a time in a working directory, because two would write the same request."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from ser_platform.errors import UserError
from ser_platform.settings import runs_folder


@contextlib.contextmanager
def hold_tuning_lock() -> Iterator[None]:
    """Prevent other tunings of the working directory during the block.

    Raises:
        UserError: another process is tuning here.
    """
    folder = runs_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".tune.lock").open("a+", encoding="utf-8") as file:
        try:
            # `flock` would be inherited: a child that survives a killed tuning would keep the lock.
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
