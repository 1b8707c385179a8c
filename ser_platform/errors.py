"""What can go wrong, by whose hand it is mended.

`UserError` is the user's input (exit code 2), `WorkFailed` the work itself (exit code 1). Both are shown as one line.
"""

import sys
from collections.abc import Iterable

MAX_LINE_CHARS = 300  # some libraries put a whole answer of a server into one line


class SerError(Exception):
    """Anything the platform reports as one line."""

    exit_code = 1


class WorkFailed(SerError):
    """The input was fine, the work did not succeed."""


class UserError(SerError):
    """The input is wrong; the message says what was given and what is valid."""

    exit_code = 2


class UnknownChoice(UserError):
    """A name that is not among the valid ones."""

    def __init__(self, what: str, given: object, choices: Iterable[object]) -> None:
        valid = ", ".join(str(choice) for choice in choices) or "none there are"
        super().__init__(f"unknown {what} {given!r}; choose from: {valid}")


class MissingExtra(UserError):
    """An optional package that the command needs is not installed."""

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(f"{package} is not installed; run: {sys.executable} -m pip install 'ser-platform[{extra}]'")


class BadAudio(UserError):
    """A file that cannot be used as speech, and why."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.path, self.reason)  # crosses process borders


class CorpusError(UserError):
    """A corpus, manifest or split that would spoil an experiment."""


class SearchSpaceError(UserError):
    """A search space that cannot be searched."""


class BundleError(UserError):
    """A model bundle that is damaged, altered, or of another version."""


class PromotionRefused(SerError):
    """The gates that a candidate did not pass."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 300 characters, or its class's name where it has none."""
    return next(iter(_message_lines(error)), type(error).__name__)[:MAX_LINE_CHARS]


def last_line(error: BaseException) -> str:
    """Return the last line of an error's message, as of a traceback, or the name of its class where it has none."""
    return next(reversed(_message_lines(error)), type(error).__name__)


def _message_lines(error: BaseException) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()]
