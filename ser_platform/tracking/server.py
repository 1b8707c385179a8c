"""The MLflow server for a group, without Docker: it requires a password and serves the artefacts.

Its folder contains the database (unless `MLFLOW_BACKEND_URI` is set), the artefacts (unless
`MLFLOW_ARTIFACTS_DESTINATION` is set), the users, and two secrets that only the owner may read. Secrets are passed in
the environment, because arguments are visible in the list of processes.
"""

import importlib.util
import os
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from ser_platform.errors import MissingExtra, UserError
from ser_platform.tracking.store_creation import SQLITE_SCHEME, ensure_store

PASSWORD_FILE, SECRET_KEY_FILE, DATABASE_FILE = "admin_password", "secret_key", "mlflow.db"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
USERS = """[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/users.db
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


@dataclass(frozen=True)
class ServerPlan:
    """The settings of a server.

    Attributes:
        folder: for its data.
        allowed_hosts: values of the HTTP header `Host` that it accepts beside this machine's; against DNS rebinding.
        auth: whether it requires a password.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 5000
    allowed_hosts: tuple[str, ...] = ()
    workers: int = 2
    auth: bool = True

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def refuse_open(self) -> None:
        """Refuse settings that cannot be served safely.

        Raises UserError where other machines could connect without a password, or the port is in use, and MissingExtra
        where a password requires the extra `server`.
        """
        if self.auth and importlib.util.find_spec("flask_wtf") is None:
            raise MissingExtra("server", "Flask-WTF")
        if not self.auth and self.host not in LOOPBACK:
            raise UserError(
                f"--no-auth on {self.host} would let any machine change all runs; use --host 127.0.0.1 or --auth"
            )
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except OSError as error:
                raise UserError(
                    f"the server cannot listen on {self.host}:{self.port}: {error.strerror}; choose another --port"
                ) from error

    def prepare(self) -> None:
        """Create the folder, its database unless `MLFLOW_BACKEND_URI` is set, and missing secrets."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in (PASSWORD_FILE, SECRET_KEY_FILE):
            path = self.folder / name
            if not path.exists():
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    file.write(secrets.token_urlsafe(24))
        if "MLFLOW_BACKEND_URI" not in os.environ:
            ensure_store(self.folder.resolve() / DATABASE_FILE)
        (self.folder / "users.ini").write_text(USERS.format(folder=self.folder.resolve()), encoding="utf-8")

    @property
    def command(self) -> list[str]:
        """The command line."""
        hosts = ",".join((*(f"{name}:{self.port}" for name in ("localhost", "127.0.0.1")), *self.allowed_hosts))
        words = [sys.executable, "-m", "mlflow", "server", "--host", self.host, "--port", str(self.port)]
        words += ["--workers", str(self.workers), "--serve-artifacts", "--allowed-hosts", hosts]
        return [*words, "--app-name", "basic-auth"] if self.auth else words

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the process: the locations of its data, and the secrets."""
        folder, own = self.folder.resolve(), dict(os.environ)
        own.pop("MLFLOW_TRACKING_URI", None)
        own["MLFLOW_BACKEND_STORE_URI"] = own.get("MLFLOW_BACKEND_URI") or f"{SQLITE_SCHEME}{folder / DATABASE_FILE}"
        own.setdefault("MLFLOW_ARTIFACTS_DESTINATION", (folder / "artefacts").as_uri())
        own["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        if self.auth:
            own["MLFLOW_AUTH_CONFIG_PATH"] = str(folder / "users.ini")
            own["MLFLOW_AUTH_ADMIN_PASSWORD"] = (folder / PASSWORD_FILE).read_text(encoding="utf-8")
            own["MLFLOW_FLASK_SERVER_SECRET_KEY"] = (folder / SECRET_KEY_FILE).read_text(encoding="utf-8")
        return own

    @property
    def client_setup(self) -> list[str]:
        """The shell commands that make another machine use the server."""
        lines = [f"export MLFLOW_TRACKING_URI={self.url}"]
        if self.auth:
            lines += ["export MLFLOW_TRACKING_USERNAME=admin"]
            lines += [f"export MLFLOW_TRACKING_PASSWORD=$(cat {self.folder.resolve() / PASSWORD_FILE})"]
        return lines
