"""Downloads and unpacks a corpus, then moves it to its place in one step: it is there complete, or not at all.

The work is done in the hidden folder `.fetch-NAME` beside the destination, by one process at a time. The folder keeps
archives and parts of archives until the corpus is in place, so that a later call resumes an interrupted one.
"""

import contextlib
import datetime
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ser_platform.corpora.download.archives import BadArchive, unpack
from ser_platform.corpora.download.transfer import (
    DownloadRecord,
    ProgressReporter,
    RetryPolicy,
    SilentReporter,
    download,
)
from ser_platform.corpora.facts import Facts
from ser_platform.errors import UserError
from ser_platform.files import write_json

RECEIPT = ".fetched.json"  # in the folder of the corpus: the addresses and digests of its archives


@dataclass(frozen=True)
class FetchedCorpus:
    """A corpus in its place. `n_files` is the number of unpacked files, 0 where the corpus was there already."""

    path: Path
    n_files: int
    records: tuple[DownloadRecord, ...]

    @property
    def unchecked(self) -> tuple[DownloadRecord, ...]:
        """The archives without a checksum: their publisher gives none."""
        return tuple(record for record in self.records if record.checksum is None)


def check_fetchable(name: str, facts: Facts) -> None:
    """Check that a corpus can be downloaded.

    Raises:
        UserError: it has no archives; the message describes how to get the corpus.
    """
    if not facts.archives:
        how_to_get = facts.how_to_get or "request it from its publishers"
        raise UserError(f"{name} is not downloaded by ser: {how_to_get}; see {facts.homepage}")


def find_fetched_corpus(name: str, folder: Path, reporter: ProgressReporter | None = None) -> Path | None:
    """Return the path of corpus `name` if it is in `folder`; removes the work folder of a fetch killed at its end."""
    destination, work = folder / name, _work_folder(folder, name)
    if not destination.exists():
        return None
    if work.exists():
        with _lock_work_folder(work, reporter or SilentReporter()):
            shutil.rmtree(work)
    return destination


def fetch_corpus(
    name: str,
    facts: Facts,
    folder: Path,
    *,
    replace_existing: bool = False,
    reporter: ProgressReporter | None = None,
    retry_policy: RetryPolicy | None = None,
) -> FetchedCorpus:
    """Download corpus `name` to `folder`/`name`; `replace_existing` replaces a corpus that was fetched before.

    Raises:
        UserError: there is nothing to download, or the folder to replace was not written by `fetch_corpus`.
        WorkFailed: a download fails, or an archive is damaged or refused.
    """
    check_fetchable(name, facts)
    reporter = reporter or SilentReporter()
    destination, work = folder / name, _work_folder(folder, name)
    with _lock_work_folder(work, reporter):
        if destination.exists():
            if not replace_existing:
                shutil.rmtree(work)
                return FetchedCorpus(destination, 0, ())
            if not (destination / RECEIPT).is_file():
                raise UserError(f"{destination} was not fetched by ser, so it is not replaced: move it, or use --to")
        paths = [work / f"archive-{number}" for number in range(len(facts.archives))]
        records = tuple(
            download(archive, path, reporter, retry_policy) for archive, path in zip(facts.archives, paths, strict=True)
        )
        unpacked, files = _unpack_all(work, paths, reporter)
        write_json(unpacked / RECEIPT, _make_receipt(name, facts, records))
        if destination.exists():
            destination.rename(_ensure_absent(work / "replaced"))
        unpacked.rename(destination)
        shutil.rmtree(work)
    return FetchedCorpus(destination, files, records)


def _work_folder(folder: Path, name: str) -> Path:
    return folder / f".fetch-{name}"


def _unpack_all(work: Path, archives: list[Path], reporter: ProgressReporter) -> tuple[Path, int]:
    """Unpack all archives into one new folder; a bad archive is removed, so that the next call downloads it."""
    reporter.report("unpacking")
    folder = _ensure_absent(work / "unpacked")
    folder.mkdir()
    files = 0
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, folder)
        for path in archives:
            try:
                files += unpack(path, folder)
            except BadArchive:
                path.unlink()
                raise
        undo.pop_all()
    return folder, files


def _ensure_absent(path: Path) -> Path:
    """Remove `path`, which an interrupted call may have left, and return it."""
    if path.exists():
        shutil.rmtree(path)
    return path


def _make_receipt(name: str, facts: Facts, records: tuple[DownloadRecord, ...]) -> dict[str, Any]:
    return {
        "corpus": name,
        "title": facts.title,
        "licence": facts.licence,
        "homepage": facts.homepage,
        "fetched": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "archives": [
            {
                "url": record.url,
                "n_bytes": record.n_bytes,
                "sha256": record.sha256,
                "checked_against": record.checksum,
            }
            for record in records
        ],
    }


@contextlib.contextmanager
def _lock_work_folder(work: Path, reporter: ProgressReporter) -> Iterator[None]:
    """Make the work folder and lock it against other fetches; remove it afterwards if it is empty."""
    lock = FileLock(work.with_name(f"{work.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        reporter.report(f"another process fetches into {work.parent}; waiting for it")
        lock.acquire()
    try:
        work.mkdir(exist_ok=True)
        yield
    finally:
        with contextlib.suppress(OSError):
            work.rmdir()  # fails where it has something to resume
        Path(lock.lock_file).unlink(missing_ok=True)  # while locked: a process that waits makes a new one
        lock.release()
