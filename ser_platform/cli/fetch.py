"""`ser corpora fetch`: download a corpus after its licence is accepted."""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ser_platform.cli.options import format_examples
from ser_platform.cli.output import make_console
from ser_platform.errors import UnknownChoice, UserError

if TYPE_CHECKING:
    from ser_platform.corpora.download.corpus_fetch import FetchedCorpus
    from ser_platform.corpora.facts import Archive, Facts

LOG_EVERY_S = 15.0  # seconds
EXAMPLES = format_examples("ser corpora fetch ravdess", "ser corpora fetch emodb --to corpora --accept-licence")


def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The corpus; see: ser corpora list")],
    to: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Unpack into FOLDER/NAME; default: SER_CORPORA, or SER_HOME/corpora."),
    ] = None,
    accept_licence: Annotated[bool, typer.Option("--accept-licence", help="Accept the licence.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Download it again and replace the previous download.")
    ] = False,
) -> None:
    """Download a corpus from its official site, check and unpack it; the same command resumes a download."""
    from ser_platform.corpora.corpus_lookup import fetched_folder
    from ser_platform.corpora.datasets import CORPORA
    from ser_platform.corpora.download.corpus_fetch import check_fetchable, fetch_corpus

    if name not in CORPORA:
        raise UnknownChoice("corpus", name, CORPORA)
    facts: Facts = CORPORA[name].FACTS
    from ser_platform.files import expand_path

    folder = fetched_folder() if to is None else expand_path(to).resolve()
    out = make_console()
    found = None if again else _find_corpus(name, folder, searches_all=to is None)
    if found is not None:
        out.print(f"{name} exists already: {found} (--again downloads it again)")
        return
    check_fetchable(name, facts)
    _print_facts(out, facts, folder / name)
    if not accept_licence:
        _require_licence(facts)
    try:
        with (ProgressBar if out.is_terminal else ProgressLog)(out, name) as reporter:
            fetched = fetch_corpus(name, facts, folder, replace_existing=again, reporter=reporter)
    except KeyboardInterrupt:
        out.print("stopped; the part downloaded so far is kept. The same command continues the download")
        raise typer.Exit(1) from None
    _print_result(out, name, fetched)


def _find_corpus(name: str, folder: Path, searches_all: bool) -> Path | None:
    from ser_platform.corpora.corpus_lookup import locate_corpus
    from ser_platform.corpora.download.corpus_fetch import find_fetched_corpus

    return find_fetched_corpus(name, folder) or (locate_corpus(name) if searches_all else None)


def _print_facts(out: Console, facts: "Facts", destination: Path) -> None:
    out.print(facts.title)
    rows = [("licence", facts.licence), ("citation", facts.citation), ("homepage", facts.homepage)]
    rows += [("download", _format_archive(archive)) for archive in facts.archives]
    for what, text in [*rows, ("destination", str(destination))]:
        out.print(f"  {what:<12} {text}")


def _format_archive(archive: "Archive") -> str:
    from ser_platform.corpora.download.transfer import format_size

    size = "size unknown" if archive.n_bytes is None else format_size(archive.n_bytes)
    check = "no checksum is published" if archive.checksum is None else f"checked by {archive.checksum.split(':')[0]}"
    return f"{size} from {urlsplit(archive.url).hostname}, {check}"


def _require_licence(facts: "Facts") -> None:
    """Request the user to accept the licence.

    Raises:
        UserError: there is no terminal, or the answer is no.
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

    count = f"{fetched.n_files:,} files" if fetched.n_files else "another process has fetched it"
    out.print(f"{name} is in {fetched.path}: {count}")
    for record in fetched.unchecked:
        secure = "" if record.url.startswith("https:") else ", and the connection was not encrypted"
        out.print(f"{record.url}: not checked, as its publisher gives no checksum{secure}")
        out.print(f"  sha256 {record.sha256}  written to {fetched.path / RECEIPT}")
    corpus = name if locate_corpus(name) == fetched.path else str(fetched.path)
    out.print("Next:")
    out.print(f"  {f'ser corpora doctor {corpus}':<36} find damaged, silent and duplicate clips")
    out.print(f"  {f'ser tune --corpus {corpus}':<36} tune on it")


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
        self.progress.console.print(text, highlight=False, markup=False)

    def report_bytes(self, done: int, total: int | None) -> None:
        if self.done < 0:
            self.task = self.progress.add_task(self.name, total=total)
        if done < self.done or self.done < 0:
            # A part from an earlier download must not count into the rate.
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
        self.out.print(text, highlight=False, markup=False)

    def report_bytes(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if done < self.done or self.done < 0:
            self.first, self.began, self.shown = done, now, now
        self.done = done
        if now - self.shown >= LOG_EVERY_S or done == total:
            self.shown = now
            self.report(f"{self.name}: {self._format_line(now - self.began, done, total)}")

    def _format_line(self, seconds: float, done: int, total: int | None) -> str:
        from ser_platform.corpora.download.transfer import format_size

        rate = (done - self.first) / max(seconds, 1e-3)
        text = format_size(done) if total is None else f"{format_size(done)} of {format_size(total)}"
        left = "" if total is None or not rate or done == total else f", {(total - done) / rate:.0f} s left"
        return f"{text}, {format_size(int(rate))}/s{left}"
