"""A web server on 127.0.0.1 with configurable faults, and an ffmpeg that is not run."""

import http.server
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CONTENT = b"".join(number.to_bytes(4, "big") for number in range(3 << 18))  # 3 MiB that do not repeat


@dataclass
class Web:
    """The configuration of the server, and the requests that it received.

    Attributes:
        content: the body of `/file`.
        etag: the version of the content; None sends none.
        ranges: whether it can resume.
        drops: for each coming answer, after how many bytes of the body the connection breaks; None: not at all.
        statuses: for each coming answer, a status in place of the file, with a Retry-After in seconds.
        redirects: from path to address.
        sends_length: whether there is a Content-Length (else the body is chunked).
        requested: the Range header of each request for the file, None where there was none.
        sent: bytes of the body sent in each answer.
    """

    content: bytes
    url: str = ""
    etag: str | None = '"one"'
    ranges: bool = True
    drops: list[int | None] = field(default_factory=list)
    statuses: list[tuple[int, str | None]] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    sends_length: bool = True
    seconds_per_chunk: float = 0.0
    requested: list[str | None] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)

    def at(self, path: str) -> str:
        return f"{self.url}{path}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def do_GET(self) -> None:
        web = self.web
        if self.path in web.redirects:
            self._answer(302, {"Location": web.redirects[self.path]})
            return
        web.requested.append(self.headers.get("Range"))
        if web.statuses:
            status, retry_after = web.statuses.pop(0)
            self._answer(status, {} if retry_after is None else {"Retry-After": retry_after})
            return
        self._file()

    def _file(self) -> None:
        web, start = self.web, 0
        headers = {} if web.etag is None else {"ETag": web.etag}
        sent = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, web.etag)
        if sent and web.ranges and same:
            start = int(sent[1])
            if start >= len(web.content):
                self._answer(416, {"Content-Range": f"bytes */{len(web.content)}"})
                return
            headers["Content-Range"] = f"bytes {start}-{len(web.content) - 1}/{len(web.content)}"
        self._body(206 if start else 200, headers, web.content[start:])

    def _body(self, status: int, headers: dict[str, str], body: bytes) -> None:
        web = self.web
        drop = web.drops.pop(0) if web.drops else None
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length" if web.sends_length else "Transfer-Encoding", str(len(body)))
        if not web.sends_length:
            self._headers_buffer[-1] = b"Transfer-Encoding: chunked\r\n"  # type: ignore[attr-defined]  # private
        self.end_headers()
        web.sent.append(0)
        for at in range(0, len(body[:drop]), 1 << 16):
            piece = body[:drop][at : at + (1 << 16)]
            self.wfile.write(piece if web.sends_length else b"%x\r\n%s\r\n" % (len(piece), piece))
            web.sent[-1] += len(piece)
            time.sleep(web.seconds_per_chunk)
        if drop is not None:
            self.close_connection = True
        elif not web.sends_length:
            self.wfile.write(b"0\r\n\r\n")

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that was killed


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server with 3 MiB."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = Web(CONTENT)
    handler = type("Handler", (_Handler,), {"web": served})
    with _Server(("127.0.0.1", 0), handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield served
        server.shutdown()
        thread.join()


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of that name on PATH; listing clips does not run it."""
    command = tmp_path / "bin" / "ffmpeg"
    command.parent.mkdir()
    command.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)
