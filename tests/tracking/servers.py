"""A real MLflow server that can be killed and restarted, and a proxy that drops its responses.

As a script it starts servers as forks of one process that has imported MLflow's server, which takes 10 s.
"""

import functools
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

STARTS_WITHIN = 90.0  # seconds


def free_port() -> int:
    """Return an unused port of 127.0.0.1."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """An MLflow server on SQLite in a folder, at the same address after each restart.

    Args:
        empty_store: a new store in SQLite, which is copied.
    """

    def __init__(self, folder: Path, empty_store: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._pid: int | None = None
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(empty_store, folder / "mlflow.db")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        # What `mlflow server` sets for `--backend-store-uri` and `--artifacts-destination`.
        environment = {
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{self.folder}/mlflow.db",
            "_MLFLOW_SERVER_REGISTRY_STORE": f"sqlite:///{self.folder}/mlflow.db",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(self.folder / "artefacts"),
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        }
        log = self.folder / "server.log"
        self._pid = _order({"environment": environment, "port": self.port, "log": str(log)})
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=1):
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(log.read_text()[-2000:])

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        if self._pid is not None:
            assert _order({"kill": self._pid}) == -signal.SIGKILL
            self._pid = None


@functools.cache
def _forking_process() -> "subprocess.Popen[str]":
    """Start the process that forks servers; it ends with this process."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    own |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return subprocess.Popen(
        [sys.executable, __file__], env=own, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _order(order: dict[str, object]) -> int:
    """Start or kill a server; return its process id or its exit code."""
    process = _forking_process()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(order) + "\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def _carry_out_orders() -> None:
    import uvicorn
    from mlflow.server.fastapi_app import app
    from mlflow.store.model_registry import sqlalchemy_store as _registry  # noqa: F401 - imported once for all forks
    from mlflow.store.tracking import sqlalchemy_store as _tracking  # noqa: F401

    for line in sys.stdin:
        order = json.loads(line)
        if "kill" in order:
            os.kill(order["kill"], signal.SIGKILL)
            print(os.waitstatus_to_exitcode(os.waitpid(order["kill"], 0)[1]), flush=True)
        elif pid := os.fork():
            print(pid, flush=True)
        else:
            os.setsid()
            log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for stream in (1, 2):
                os.dup2(log, stream)
            os.environ.update(order["environment"])
            uvicorn.run(app, host="127.0.0.1", port=order["port"])
            return


class LosingProxy:
    """Forwards requests; drops the response to a request where `loses(path)` is true."""

    def __init__(self, target: int, loses: Callable[[str], bool]) -> None:
        proxy = self
        self.lost: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server = http.client.HTTPConnection("127.0.0.1", target)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                server.request(self.command, self.path, body, headers)
                answer = server.getresponse()
                content = answer.read()
                if loses(self.path):
                    proxy.lost.append(self.path)
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.getheader("Content-Type", "application/json"))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def __getattr__(self, name: str) -> Callable[[], None]:
                if name.startswith("do_"):  # any method
                    return self._forward
                raise AttributeError(name)

            def log_message(self, *words: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop the proxy."""
        self._server.shutdown()
        self._server.server_close()


if __name__ == "__main__":
    _carry_out_orders()
