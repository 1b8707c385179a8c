"""One file from the web: resumed where it stopped, never mixed with another version, checked before it counts.

While it comes, the file is `NAME.part` beside `NAME.json`, which says what the bytes are of. It becomes `NAME` only
when it is whole and its checksum is right, so a kill at any moment leaves a part to resume or a finished file.
"""

import contextlib
import datetime
import email.utils
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import urljoin, urlsplit

import requests
import urllib3  # comes with requests; only its errors: raw streams raise them

from ser_platform.corpora.facts import Archive
from ser_platform.errors import WorkFailed
from ser_platform.files import read_json, write_json

CHUNK_BYTES = 1 << 18  # bytes
MAX_REDIRECTS = 10  # browsers allow 20; an archive needs two or three
MIN_PROGRESS_BYTES = 1 << 20  # bytes; less than this is no progress, so that a server cannot make us try for ever
UNPACKED_RATIO = 3  # times the archive: RAVDESS grows 2.5-fold, and the exact size is checked before unpacking
RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
STALE_STATUSES = frozenset({412, 416})  # what we hold is of another version, or longer than the file


@dataclass(frozen=True)
class RetryPolicy:
    """How long to bear with a server: tries in a row without progress, seconds between them and on a silent line."""

    max_tries: int = 5
    first_wait_s: float = 1.0  # doubled at each further try
    max_wait_s: float = 120.0  # a server that asks for more is given up
    timeout_s: float = 30.0


class ProgressReporter(Protocol):
    """Is told how a fetch goes."""

    def report(self, text: str) -> None:
        """Take a line that a person should see."""

    def report_bytes(self, done: int, total: int | None) -> None:
        """Take how many bytes of the present file are here, of how many (None: the server does not say)."""


class SilentReporter:
    """A watcher that looks away."""

    def report(self, text: str) -> None:
        pass

    def report_bytes(self, done: int, total: int | None) -> None:
        pass


@dataclass(frozen=True)
class DownloadRecord:
    """What `NAME.part`, and later `NAME`, holds. `sha256` is there only when the file is whole and checked."""

    url: str
    checksum: str | None
    etag: str | None
    last_modified: str | None
    n_bytes: int | None
    sha256: str | None = None

    @property
    def validator(self) -> str | None:
        """What If-Range may carry: a weak ETag does not promise the same bytes (RFC 9110, section 13.1.5)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class DownloadInterrupted(Exception):
    """The file did not come to its end, and trying again may help."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def download(
    archive: Archive, path: Path, reporter: ProgressReporter | None = None, retry_policy: RetryPolicy | None = None
) -> DownloadRecord:
    """Bring `archive` to `path`, going on with what an earlier call left beside it.

    Raises:
        WorkFailed: the server refuses or keeps failing, size or checksum are wrong, or the disk is too small.
    """
    return _Transfer(archive, path, reporter or SilentReporter(), retry_policy or RetryPolicy()).run()


def resolve_url(url: str, redirected_from: str | None = None) -> str:
    """Return `url`, resolved against the page that redirects to it, if it may be asked.

    Raises:
        WorkFailed: it is not http(s), or would leave https for http.
    """
    try:
        target = urljoin(redirected_from, url) if redirected_from else url
        scheme, host = urlsplit(target).scheme.lower(), urlsplit(target).hostname
    except ValueError as error:
        raise WorkFailed(f"{url!r} is no address: {error}") from error
    if scheme not in ("http", "https") or not host:
        raise WorkFailed(f"{target} is refused: only http and https addresses are downloaded")
    if redirected_from and urlsplit(redirected_from).scheme.lower() == "https" and scheme == "http":
        raise WorkFailed(f"{redirected_from} redirects to {target}: refused, as it leaves https for http")
    return target


class _Transfer:
    """The state of one download."""

    def __init__(self, archive: Archive, path: Path, reporter: ProgressReporter, retry_policy: RetryPolicy) -> None:
        self.archive, self.path, self.reporter, self.retry_policy = archive, path, reporter, retry_policy
        self.part = path.with_name(path.name + ".part")
        self.record_path = path.with_name(path.name + ".json")
        self.session = requests.Session()
        # Without `neutral` some servers unpack or re-pack a .tar.gz on the way, and no checksum would hold.
        self.session.headers.update({"User-Agent": "ser-platform", "Accept-Encoding": "identity"})

    def run(self) -> DownloadRecord:
        record = self._record()
        if self.path.exists():
            if record and record.sha256:
                return record
            self.path.unlink()
        with self.session:
            self._receive_all()
        return self._finish()

    # What is here already

    def _record(self) -> DownloadRecord | None:
        """Return what was noted, if it is about this archive: another release's bytes are of no use."""
        try:
            record = DownloadRecord(**read_json(self.record_path))
        except (FileNotFoundError, WorkFailed, TypeError):
            return None
        return record if (record.url, record.checksum) == (self.archive.url, self.archive.checksum) else None

    def _count_received_bytes(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _discard(self) -> None:
        """Forget the part; bytes go before their note, so that no note ever stands over another version's bytes."""
        self.part.unlink(missing_ok=True)
        self.record_path.unlink(missing_ok=True)

    # Receiving

    def _receive_all(self) -> None:
        """Try until the part is whole; tries count anew after progress."""
        reached, failures = self._count_received_bytes(), 0
        while True:
            try:
                return self._receive()
            except DownloadInterrupted as problem:
                failures += 1
                if self._count_received_bytes() >= reached + MIN_PROGRESS_BYTES:
                    reached, failures = self._count_received_bytes(), 1
                self._wait(problem, failures)

    def _wait(self, problem: DownloadInterrupted, failures: int) -> None:
        wait = self.retry_policy.first_wait_s * 2 ** (failures - 1)
        wait = min(wait, self.retry_policy.max_wait_s) if problem.wait_s is None else problem.wait_s
        kept = (
            f"; {format_size(self._count_received_bytes())} are kept, the same command goes on with them"
            if self._count_received_bytes()
            else ""
        )
        if failures >= self.retry_policy.max_tries:
            raise WorkFailed(f"{self.archive.url}: {problem}; gave up after {failures} tries{kept}") from problem
        if wait > self.retry_policy.max_wait_s:
            raise WorkFailed(f"{self.archive.url}: {problem}, and asks to come back in {wait:.0f} s{kept}") from problem
        self.reporter.report(f"{problem}; try {failures + 1} of {self.retry_policy.max_tries} in {wait:.0f} s")
        time.sleep(wait)

    def _receive(self) -> None:
        """Ask once for what is missing and append it."""
        record, held = self._record(), self._count_received_bytes()
        if record is None or not held or (record.validator is None and record.checksum is None):
            self._discard()  # nothing here, or nothing to tell whether the file is still the same
            record, held = None, 0
        elif held == record.n_bytes:
            return  # killed between the last byte and the check
        with self._response(record, held) as response:
            stale = response.status_code in STALE_STATUSES or (
                response.status_code == 206 and not _is_continuation(response, record)
            )
            if held and stale:
                self.reporter.report("the file has changed on the server: starting over")
                self._discard()
            else:
                self._store_body(response, record, held)
                return
        self._receive()  # once: nothing is held now

    def _response(self, record: DownloadRecord | None, held: int) -> requests.Response:
        headers = {}
        if record is not None:
            headers["Range"] = f"bytes={held}-"
            if record.validator:
                headers["If-Range"] = record.validator
        url = resolve_url(self.archive.url)
        for _ in range(MAX_REDIRECTS):
            try:
                # Not by requests itself: it would follow https to http.
                response = self.session.get(
                    url, headers=headers, stream=True, allow_redirects=False, timeout=self.retry_policy.timeout_s
                )
            except requests.exceptions.SSLError as error:
                raise WorkFailed(f"{url}: no safe connection ({error})") from error
            except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
                raise DownloadInterrupted(f"{urlsplit(url).hostname} cannot be reached") from error
            except requests.exceptions.RequestException as error:
                raise WorkFailed(f"{url}: {error}") from error
            if not response.is_redirect:
                return response
            response.close()
            url = resolve_url(response.headers["Location"], redirected_from=url)
        raise WorkFailed(f"{self.archive.url} redirects more than {MAX_REDIRECTS} times")

    def _store_body(self, response: requests.Response, record: DownloadRecord | None, held: int) -> None:
        """Append the body of a good response, or raise what its status means."""
        if response.status_code == 206 and record is not None:
            start, total = held, record.n_bytes or _range_total(response)
        elif response.status_code == 200:
            start, total = 0, _length(response)
        else:
            raise _refusal(self.archive.url, response)
        self._check_size(total)
        self._check_disk_space(total or self.archive.n_bytes, start)
        if start == 0:
            if held:
                self.reporter.report("the server cannot resume: starting over")
            self._discard()
            record = DownloadRecord(
                self.archive.url,
                self.archive.checksum,
                response.headers.get("ETag"),
                response.headers.get("Last-Modified"),
                total,
            )
            write_json(self.record_path, asdict(record))
        self._append(response, start, total)

    def _append(self, response: requests.Response, start: int, total: int | None) -> None:
        done = start
        with self.part.open("ab") as part, _translate_connection_errors():
            # Raw: what Content-Encoding says is the file's own affair, `task.tar.gz` is often sent as gzip.
            for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
                part.write(chunk)
                done += len(chunk)
                self._check_size(None if done <= (self.archive.n_bytes or done) else done)
                self.reporter.report_bytes(done, total or self.archive.n_bytes)
        if total is not None and done < total:
            raise DownloadInterrupted(f"the connection ended at {done:,} of {total:,} bytes")

    def _check_size(self, n_bytes: int | None) -> None:
        """Raise where a size is told and is not the published one."""
        if None not in (n_bytes, self.archive.n_bytes) and n_bytes != self.archive.n_bytes:
            self._discard()
            raise WorkFailed(
                f"{self.archive.url} has {n_bytes:,} bytes; the published size is {self.archive.n_bytes:,}"
            )

    def _check_disk_space(self, n_bytes: int | None, start: int) -> None:
        if n_bytes is None:
            return
        needed, free = n_bytes - start + UNPACKED_RATIO * n_bytes, shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise WorkFailed(
                f"{self.path.parent} has {format_size(free)} free; {format_size(needed)} are needed "
                f"({format_size(n_bytes - start)} to download, about {format_size(UNPACKED_RATIO * n_bytes)} unpacked)"
            )

    # The end

    def _finish(self) -> DownloadRecord:
        """Check the whole part and give it its name."""
        record = self._record()
        assert record is not None
        n_bytes = self._count_received_bytes()
        self._check_size(n_bytes)
        kind, _, expected = (self.archive.checksum or "").partition(":")
        digests = _digests(self.part, {"sha256", kind} - {""})
        if kind and digests[kind] != expected.lower():
            self._discard()
            raise WorkFailed(f"{self.archive.url}: {kind} is {digests[kind]}, expected {expected}; removed it")
        record = replace(record, n_bytes=n_bytes, sha256=digests["sha256"])
        write_json(self.record_path, asdict(record))
        self.part.replace(self.path)
        return record


def format_size(n_bytes: int) -> str:
    """Return a size for people, like `208.5 MB`: millions of bytes, as publishers count."""
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 10e9 else f"{n_bytes / 1e6:,.1f} MB"


@contextlib.contextmanager
def _translate_connection_errors() -> Iterator[None]:
    """Turn a connection that breaks or falls silent into `DownloadInterrupted`."""
    try:
        yield
    except urllib3.exceptions.HTTPError as error:
        raise DownloadInterrupted("the connection broke") from error
    except (ConnectionError, TimeoutError) as error:
        raise DownloadInterrupted("the connection broke") from error


def _digests(path: Path, kinds: set[str]) -> dict[str, str]:
    """Return the digests of a file, which is read once and is on the disk afterwards."""
    hashes = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            for each in hashes.values():
                each.update(chunk)
        os.fsync(file.fileno())
    return {kind: each.hexdigest() for kind, each in hashes.items()}


def _length(response: requests.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _content_range(response: requests.Response) -> tuple[int, int | None] | None:
    """Return where a partial answer starts and how long the file is, None if it does not say."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    return None if match is None else (int(match[1]), None if match[2] == "*" else int(match[2]))


def _range_total(response: requests.Response) -> int | None:
    span = _content_range(response)
    return span[1] if span else None


def _is_continuation(response: requests.Response, record: DownloadRecord | None) -> bool:
    """Tell whether a partial answer is the rest of what the record is about."""
    span = _content_range(response)
    sent = re.fullmatch(r"bytes=(\d+)-", str(response.request.headers.get("Range", "")))
    if record is None or span is None or sent is None or span[0] != int(sent[1]):
        return False
    same_size = None in (span[1], record.n_bytes) or span[1] == record.n_bytes
    etag = response.headers.get("ETag")
    return same_size and (etag is None or record.etag is None or etag == record.etag)


def _refusal(url: str, response: requests.Response) -> Exception:
    """Return what an answer that is no file means: worth another try, or the end."""
    status = response.status_code
    if status in RETRY_STATUSES:
        return DownloadInterrupted(f"the server answers {status} {response.reason}", _retry_after(response))
    if status in (401, 403):
        return WorkFailed(f"{url}: the server refuses ({status} {response.reason}); get the file by hand")
    if status in (404, 410):
        return WorkFailed(f"{url}: not there ({status} {response.reason}); the publisher may have moved it")
    return WorkFailed(f"{url}: the server answers {status} {response.reason}")


def _retry_after(response: requests.Response) -> float | None:
    """Return the seconds that the server asks to wait: a number or a date (RFC 9110, section 10.2.3)."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max((moment - datetime.datetime.now(datetime.UTC)).total_seconds(), 0.0)
