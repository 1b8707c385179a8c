"""`ser corpora fetch`: download a corpus after its licence was accepted."""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ser_platform.cli.output import console
from ser_platform.errors import UnknownChoice, UserError

if TYPE_CHECKING:
    from ser_platform.corpora.download.corpus_fetch import FetchedCorpus
    from ser_platform.corpora.facts import Archive, Facts

LOG_EVERY_S = 15.0  # seconds


def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The corpus, as in: ser corpora list.")],
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Put it into FOLDER/NAME instead of under SER_CORPORA.")
    ] = None,
    accept_licence: Annotated[bool, typer.Option("--accept-licence", help="Accept the licence unasked.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Download it again, in place of the one fetched before.")
    ] = False,
) -> None:
    """Download a corpus from its official place: resumes, checks, unpacks.

    What was downloaded before an interruption is kept: the same command goes on with it.
    """
    from ser_platform.corpora.corpus_lookup import fetched_folder
    from ser_platform.corpora.datasets import CORPORA
    from ser_platform.corpora.download.corpus_fetch import check_fetchable, fetch_corpus

    if name not in CORPORA:
        raise UnknownChoice("corpus", name, CORPORA)
    facts: Facts = CORPORA[name].FACTS
    from ser_platform.files import expand_path

    folder = fetched_folder() if to is None else expand_path(to).resolve()
    out = console()
    found = None if again else _found(name, folder, searched=to is None)
    if found is not None:
        _print_line(out, f"{name} is there already: {found} (--again downloads it again)")
        return
    check_fetchable(name, facts)
    _show(out, facts, folder / name)
    if not accept_licence:
        _ask(facts)
    try:
        with _watcher(out, name) as watcher:
            fetched = fetch_corpus(name, facts, folder, replace_existing=again, reporter=watcher)
    except KeyboardInterrupt:
        _print_line(out, "stopped; what was downloaded is kept. The same command goes on with it")
        raise typer.Exit(1) from None
    _print_result(out, name, fetched)


def _found(name: str, folder: Path, searched: bool) -> Path | None:
    from ser_platform.corpora.corpus_lookup import locate_corpus
    from ser_platform.corpora.download.corpus_fetch import find_fetched_corpus

    return find_fetched_corpus(name, folder) or (locate_corpus(name) if searched else None)


def _show(out: Console, facts: "Facts", destination: Path) -> None:
    """Print what would come, from whom, and on what terms."""
    _print_line(out, facts.title)
    rows = [("licence", facts.licence), ("citation", facts.citation), ("homepage", facts.homepage)]
    rows += [("download", _describe_archive(archive)) for archive in facts.archives]
    for what, text in [*rows, ("destination", str(destination))]:
        _print_line(out, f"  {what:<12} {text}")


def _describe_archive(archive: "Archive") -> str:
    from ser_platform.corpora.download.transfer import format_size

    size = "size unknown" if archive.n_bytes is None else format_size(archive.n_bytes)
    check = "no checksum is published" if archive.checksum is None else f"checked by {archive.checksum.split(':')[0]}"
    return f"{size} from {urlsplit(archive.url).hostname}, {check}"


def _ask(facts: "Facts") -> None:
    """Have the licence accepted.

    Raises:
        UserError: nobody can be asked, or the answer is no.
    """
    if not _is_interactive():
        raise UserError(f"the licence of {facts.title} ({facts.licence}) has to be accepted: add --accept-licence")
    if not typer.confirm("Do you accept the licence?", default=False):
        raise UserError(f"nothing was downloaded: the licence of {facts.title} was not accepted")


def _is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _print_result(out: Console, name: str, fetched: "FetchedCorpus") -> None:
    from ser_platform.corpora.corpus_lookup import locate_corpus
    from ser_platform.corpora.download.corpus_fetch import RECEIPT

    came = f"{fetched.n_files:,} files" if fetched.n_files else "another process has fetched it"
    _print_line(out, f"{name} is in {fetched.path}: {came}")
    for record in fetched.unchecked:
        secure = "" if record.url.startswith("https:") else ", and the connection was not encrypted"
        _print_line(out, f"{record.url}: not checked, as its publisher gives no checksum{secure}")
        _print_line(out, f"  sha256 {record.sha256}  kept in {fetched.path / RECEIPT}")
    corpus = name if locate_corpus(name) == fetched.path else str(fetched.path)
    _print_line(out, "Next:")
    _print_line(out, f"  {f'ser corpora doctor {corpus}':<36} look for damaged, silent and double clips")
    _print_line(out, f"  {f'ser tune --corpus {corpus}':<36} tune on it")


def _print_line(out: Console, text: str) -> None:
    out.print(text, highlight=False, markup=False)


def _watcher(out: Console, name: str) -> "ProgressBar | ProgressLog":
    return ProgressBar(out, name) if out.is_terminal else ProgressLog(out, name)


class ProgressBar:
    """A progress bar with bytes, rate and the time left, for a terminal."""

    def __init__(self, out: Console, name: str) -> None:
        columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self.progress = Progress(TextColumn("{task.description}"), BarColumn(), *columns, console=out)
        self.name, self.done = name, -1

    def __enter__(self) -> "ProgressBar":
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.progress.stop()

    def report(self, text: str) -> None:
        _print_line(self.progress.console, text)

    def report_bytes(self, done: int, total: int | None) -> None:
        if self.done < 0:
            self.task = self.progress.add_task(self.name, total=total)
        if done < self.done or self.done < 0:
            # A resumed part was not received now: it must not count into the rate.
            self.progress.reset(self.task, total=total, completed=done)
        self.progress.update(self.task, total=total, completed=done)
        self.done = done


class ProgressLog:
    """A line every 15 seconds and one at the end, for a log."""

    def __init__(self, out: Console, name: str) -> None:
        self.out, self.name = out, name
        self.done, self.first, self.began, self.shown = -1, 0, 0.0, 0.0

    def __enter__(self) -> "ProgressLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def report(self, text: str) -> None:
        _print_line(self.out, text)

    def report_bytes(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if done < self.done or self.done < 0:
            self.first, self.began, self.shown = done, now, now
        self.done = done
        if now - self.shown >= LOG_EVERY_S or done == total:
            self.shown = now
            self.report(f"{self.name}: {self._line(now - self.began, done, total)}")

    def _line(self, seconds: float, done: int, total: int | None) -> str:
        from ser_platform.corpora.download.transfer import format_size

        rate = (done - self.first) / max(seconds, 1e-3)
        text = format_size(done) if total is None else f"{format_size(done)} of {format_size(total)}"
        left = "" if total is None or not rate or done == total else f", {(total - done) / rate:.0f} s left"
        return f"{text}, {format_size(int(rate))}/s{left}"
