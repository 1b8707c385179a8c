"""Downloads one file over HTTP: resumes where an earlier call stopped, and checks size and checksum.

The bytes are written to `NAME.part`, their address, version and expected checksum to `NAME.json`. `NAME.part` is
renamed to `NAME` only when it is complete and its checksum is right, so a kill at any moment leaves a part that the
next call resumes, or a finished file.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse, Retry
from urllib3.exceptions import HTTPError, InvalidHeader

from ser_platform.corpora.facts import Archive
from ser_platform.errors import WorkFailed
from ser_platform.files import read_json, write_json

CHUNK_BYTES = 1 << 18  # bytes
MAX_REDIRECTS = 10  # browsers allow 20; an archive needs two or three
MIN_PROGRESS_BYTES = 1 << 20  # bytes; fewer do not reset the count of tries, so that the tries end
UNPACKED_RATIO = 3  # times the archive: RAVDESS grows 2.5-fold, and the exact size is checked before unpacking
RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
STALE_STATUSES = frozenset({412, 416})  # the part is of another version, or longer than the file


@dataclass(frozen=True)
class RetryPolicy:
    """How often and after how long a wait a request is repeated."""

    max_tries: int = 5  # in a row without progress
    first_wait_s: float = 1.0  # doubled at each further try
    max_wait_s: float = 120.0  # the download fails where a server requests a longer wait
    timeout_s: float = 30.0  # without a byte


class ProgressReporter(Protocol):
    """Receives the progress of a download."""

    def report(self, text: str) -> None:
        """Show a line to the user."""

    def report_bytes(self, done: int, total: int | None) -> None:
        """Show how many bytes of the present file are here, of how many (None where the server sends no length)."""


class SilentReporter:
    """Shows nothing."""

    def report(self, text: str) -> None:
        pass

    def report_bytes(self, done: int, total: int | None) -> None:
        pass


@dataclass(frozen=True)
class DownloadRecord:
    """The content of `NAME.json`: which file the bytes are of. `sha256` is set when the file is whole and checked."""

    url: str
    checksum: str | None
    etag: str | None
    last_modified: str | None
    n_bytes: int | None
    sha256: str | None = None

    @property
    def validator(self) -> str | None:
        """The value for If-Range: a weak ETag does not promise identical bytes (RFC 9110, section 13.1.5)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class DownloadInterrupted(Exception):
    """The connection failed before the end of the file; another try may succeed."""


def download(
    archive: Archive, path: Path, reporter: ProgressReporter | None = None, retry_policy: RetryPolicy | None = None
) -> DownloadRecord:
    """Download `archive` to `path`; resumes the part that an earlier call left beside it.

    Raises:
        WorkFailed: the server refuses or keeps failing, size or checksum are wrong, or the disk is too small.
    """
    return _Transfer(archive, path, reporter or SilentReporter(), retry_policy or RetryPolicy()).run()


def resolve_url(url: str, redirected_from: str | None = None) -> str:
    """Return `url`, resolved against the page that redirects to it.

    Raises:
        WorkFailed: it is not http(s), or a redirect from https to http.
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


def format_size(n_bytes: int) -> str:
    """Return a size as text, like `208.5 MB`: millions of bytes, as publishers count."""
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 10e9 else f"{n_bytes / 1e6:,.1f} MB"


class _Session(requests.Session):
    """Checks the address of each redirect."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        return None if target is None else resolve_url(target, redirected_from=resp.url)


class _StatusRetry(Retry):
    """Repeats a request that is answered with one of `RETRY_STATUSES`; calls `wait` before each repetition."""

    def __init__(self, *, wait: Callable[[str, int, float | None], None], **settings: Any) -> None:
        super().__init__(**settings)
        self.wait = wait

    def new(self, **changes: Any) -> "_StatusRetry":
        return super().new(wait=self.wait, **changes)

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        assert response is not None, "connections are not retried here"
        try:
            wait_s = self.get_retry_after(response)
        except InvalidHeader:
            wait_s = None
        self.wait(f"the server answers {response.status} {response.reason}", len(self.history), wait_s)


class _Transfer:
    """The state of one download."""

    def __init__(self, archive: Archive, path: Path, reporter: ProgressReporter, retry_policy: RetryPolicy) -> None:
        self.archive, self.path, self.reporter, self.retry_policy = archive, path, reporter, retry_policy
        self.part = path.with_name(path.name + ".part")
        self.record_path = path.with_name(path.name + ".json")
        self.session = _Session()
        self.session.max_redirects = MAX_REDIRECTS
        # With another encoding some servers unpack or re-pack a .tar.gz, and the checksum would be wrong.
        self.session.headers.update({"User-Agent": "ser-platform", "Accept-Encoding": "identity"})
        retry = _StatusRetry(  # connections are retried by `run`, which resumes the part
            wait=self._wait,
            total=None,
            connect=0,
            read=0,
            other=0,
            status=retry_policy.max_tries - 1,
            status_forcelist=RETRY_STATUSES,
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=retry))

    def run(self) -> DownloadRecord:
        record = self._read_record()
        if self.path.exists():
            if record and record.sha256:
                return record
            self.path.unlink()
        reached, failures = self._count_received_bytes(), 0
        with self.session:
            while True:
                try:
                    self._receive()
                    return self._finish()
                except DownloadInterrupted as problem:
                    failures += 1
                    if self._count_received_bytes() >= reached + MIN_PROGRESS_BYTES:
                        reached, failures = self._count_received_bytes(), 1
                    self._wait(str(problem), failures)

    def _wait(self, problem: str, failures: int, wait_s: float | None = None) -> None:
        """Wait before another try: `wait_s` where the server requests it, else longer after each failure.

        Raises:
            WorkFailed: there were too many tries, or the wait is too long.
        """
        policy, n_bytes = self.retry_policy, self._count_received_bytes()
        kept = f"; {format_size(n_bytes)} are kept, the same command resumes them" if n_bytes else ""
        if failures >= policy.max_tries:
            raise WorkFailed(f"{self.archive.url}: {problem}; gave up after {failures} tries{kept}")
        if wait_s is None:
            wait_s = min(policy.first_wait_s * 2 ** (failures - 1), policy.max_wait_s)
        if wait_s > policy.max_wait_s:
            raise WorkFailed(f"{self.archive.url}: {problem}, and requests another try in {wait_s:.0f} s{kept}")
        self.reporter.report(f"{problem}; try {failures + 1} of {policy.max_tries} in {wait_s:.0f} s")
        time.sleep(wait_s)

    def _read_record(self) -> DownloadRecord | None:
        """Return the record beside the part, None where it is of another release of the archive."""
        try:
            record = DownloadRecord(**read_json(self.record_path))
        except (FileNotFoundError, WorkFailed, TypeError):
            return None
        return record if (record.url, record.checksum) == (self.archive.url, self.archive.checksum) else None

    def _count_received_bytes(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)  # before its record: no record may describe another version's bytes
        self.record_path.unlink(missing_ok=True)

    def _receive(self) -> None:
        """Request the bytes after the part and append them; the whole file where they cannot be appended."""
        record, start = self._read_record(), self._count_received_bytes()
        if record is None or not start or (record.validator is None and record.checksum is None):
            self._discard()  # without validator and checksum a change on the server would not be noticed
            record, start = None, 0
        elif start == record.n_bytes:
            return  # killed between the last byte and the check
        with self._request(record, start) as response:
            status = response.status_code
            if status == 200:
                if start:
                    self.reporter.report("the server cannot resume: starting over")
                self._store_body(response, 0, _content_length(response))
            elif status == 206 and record is not None and _is_continuation(response, record, start):
                self._store_body(response, start, record.n_bytes)
            elif record is None or status not in {206, *STALE_STATUSES}:
                raise self._refuse(response)
            else:
                self.reporter.report("the file has changed on the server: starting over")
                self._discard()
                response.close()
                self._receive()

    def _request(self, record: DownloadRecord | None, start: int) -> requests.Response:
        headers = {}
        if record is not None:
            headers["Range"] = f"bytes={start}-"
            if record.validator:
                headers["If-Range"] = record.validator
        url = resolve_url(self.archive.url)
        try:
            return self.session.get(url, headers=headers, stream=True, timeout=self.retry_policy.timeout_s)
        except requests.exceptions.SSLError as error:
            raise WorkFailed(f"{url}: no safe connection ({error})") from error
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
            host = urlsplit(str(error.request.url if error.request else url)).hostname
            raise DownloadInterrupted(f"{host} cannot be reached") from error
        except requests.exceptions.TooManyRedirects as error:
            raise WorkFailed(f"{url} redirects more than {MAX_REDIRECTS} times") from error
        except requests.exceptions.RequestException as error:
            raise WorkFailed(f"{url}: {error}") from error

    def _refuse(self, response: requests.Response) -> WorkFailed:
        """Return the error for an answer without a file, after all tries."""
        status, answer = response.status_code, f"{response.status_code} {response.reason}"
        if status in RETRY_STATUSES:
            self._wait(f"the server answers {answer}", self.retry_policy.max_tries)
        if status in (401, 403):
            return WorkFailed(f"{self.archive.url}: the server refuses ({answer}); get the file by hand")
        if status in (404, 410):
            return WorkFailed(f"{self.archive.url}: not there ({answer}); the publisher may have moved it")
        return WorkFailed(f"{self.archive.url}: the server answers {answer}")

    def _store_body(self, response: requests.Response, start: int, total: int | None) -> None:
        """Append the body of `response` to the part at byte `start`; 0 begins a new part."""
        self._check_size(total)
        self._check_disk_space(total or self.archive.n_bytes, start)
        if start == 0:
            self._discard()
            etag, last_modified = response.headers.get("ETag"), response.headers.get("Last-Modified")
            record = DownloadRecord(self.archive.url, self.archive.checksum, etag, last_modified, total)
            write_json(self.record_path, asdict(record))
        done = start
        try:
            with self.part.open("ab") as part:
                # Raw: a `.tar.gz` is often sent with Content-Encoding gzip, and must be stored packed.
                for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
                    part.write(chunk)
                    done += len(chunk)
                    if done > (self.archive.n_bytes or done):
                        self._check_size(done)
                    self.reporter.report_bytes(done, total or self.archive.n_bytes)
        except HTTPError as error:
            raise DownloadInterrupted("the connection broke") from error
        if total is not None and done < total:
            raise DownloadInterrupted(f"the connection ended at {done:,} of {total:,} bytes")

    def _check_size(self, n_bytes: int | None) -> None:
        """Raise where a size is known and differs from the published one."""
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

    def _finish(self) -> DownloadRecord:
        """Check the complete part and rename it to the file's name."""
        record = self._read_record()
        assert record is not None
        n_bytes = self._count_received_bytes()
        self._check_size(n_bytes)
        kind, _, expected = (self.archive.checksum or "").partition(":")
        digests = _sync_and_digest(self.part, {"sha256", kind} - {""})
        if kind and digests[kind] != expected.lower():
            self._discard()
            raise WorkFailed(f"{self.archive.url}: {kind} is {digests[kind]}, expected {expected}; removed it")
        record = replace(record, n_bytes=n_bytes, sha256=digests["sha256"])
        write_json(self.record_path, asdict(record))
        self.part.replace(self.path)
        return record


def _sync_and_digest(path: Path, kinds: set[str]) -> dict[str, str]:
    """Write a file through to the disk and return its digests by kind."""
    hashes = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            for each in hashes.values():
                each.update(chunk)
        os.fsync(file.fileno())
    return {kind: each.hexdigest() for kind, each in hashes.items()}


def _content_length(response: requests.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _is_continuation(response: requests.Response, record: DownloadRecord, start: int) -> bool:
    """Return whether a partial answer has the bytes from `start` on of the version in `record`."""
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    return (
        span is not None
        and int(span[1]) == start
        and (span[2] == "*" or record.n_bytes in (None, int(span[2])))
        and record.etag in (None, response.headers.get("ETag", record.etag))
    )
