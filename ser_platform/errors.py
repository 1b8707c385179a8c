"""The errors that the platform reports in one line (a search space: one for each mistake), with an exit code.

`UserError` (exit code 2): the input is wrong. `WorkFailed` (exit code 1): the input is valid, the work fails.
"""

import sys
from collections.abc import Iterable

MAX_LINE_CHARS = 300  # some libraries put a whole answer of a server into one line


class SerError(Exception):
    """An error that the platform reports as one line."""

    exit_code = 1

    @property
    def lines(self) -> tuple[str, ...]:
        """The message, one line for each thing that is wrong."""
        return (str(self),)


class WorkFailed(SerError):
    """The input is valid, but the work fails."""


class UserError(SerError):
    """The input is wrong; the message has the given and the valid values."""

    exit_code = 2


class UnknownChoice(UserError):
    """A name that is not among the valid ones; the message names the one that differs only in case, else all."""

    def __init__(self, what: str, given: object, choices: Iterable[object]) -> None:
        valid = [str(choice) for choice in choices]
        meant = next((choice for choice in valid if _fold(choice) == _fold(str(given))), None)
        advice = f"choose from: {', '.join(valid) or 'there are none'}" if meant is None else f"did you mean {meant}?"
        super().__init__(f"unknown {what} {given!r}; {advice}")


def _fold(name: str) -> str:
    """Return a name without its case and the kind of its separators."""
    return name.casefold().replace("-", "_")


class UnknownSetting(UserError):
    """A name that is no setting; `advice` is what it can mean."""

    def __init__(self, given: str, advice: str) -> None:
        super().__init__(f"unknown setting {given!r}; {advice}")


class MissingExtra(UserError):
    """An optional package that the command needs is not installed."""

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(f"{package} is not installed; run: {sys.executable} -m pip install 'ser-platform[{extra}]'")


class BadAudio(UserError):
    """A file that cannot be used as speech, with the reason."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.path, self.reason)  # pickling between processes uses this


class MissingFfmpeg(UserError):
    """A file needs ffmpeg, which is not on PATH."""


class CorpusError(UserError):
    """A corpus, manifest or split that would make an experiment wrong."""


class SearchSpaceError(UserError):
    """A search space that cannot be searched.

    Attributes:
        lines: one message for each mistake of its file.
        section, line: of the mistake in the file, where there is one; "" and 0 for the file as a whole.
    """

    def __init__(self, *messages: str, section: str = "", line: int = 0) -> None:
        super().__init__(*messages)
        self.section, self.line = section, line

    @property
    def lines(self) -> tuple[str, ...]:
        return self.args

    def __str__(self) -> str:
        return "; ".join(self.args)


class BundleError(UserError):
    """A model bundle that is damaged, altered or of another version."""


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
