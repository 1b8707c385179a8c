"""A server for runs and models, without Docker: MLflow's own, behind a password, its artefacts proxied.

Its folder holds the database (unless `MLFLOW_BACKEND_URI` names another), the artefacts (unless
`MLFLOW_ARTIFACTS_DESTINATION` does), the users, and two secrets that nobody but the owner may read. Secrets reach the
server by its environment: an argument shows in the list of processes.
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
    """How a server is to run.

    Attributes:
        folder: of what it keeps.
        allowed_hosts: names that browsers may call it by, beside this machine's own; against DNS rebinding.
        auth: whether it asks for a password.
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
        """Refuse to serve other machines without a password, or where another listens.

        Raises:
            UserError: it would.
            MissingExtra: there is no password without the extra.
        """
        if self.auth and importlib.util.find_spec("flask_wtf") is None:
            raise MissingExtra("server", "Flask-WTF")
        if not self.auth and self.host not in LOOPBACK:
            raise UserError(f"--no-auth on {self.host}: whoever reaches it could change all; only on 127.0.0.1")
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except OSError as error:
                raise UserError(f"{self.host}:{self.port} cannot be listened on: {error.strerror}") from error

    def prepare(self) -> None:
        """Create the folder, its database unless another is named, and secrets where there are none."""
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
        """The environment: where everything is kept, and the secrets."""
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
        """What to type elsewhere to use it."""
        lines = [f"export MLFLOW_TRACKING_URI={self.url}"]
        if self.auth:
            lines += ["export MLFLOW_TRACKING_USERNAME=admin"]
            lines += [f"export MLFLOW_TRACKING_PASSWORD=$(cat {self.folder.resolve() / PASSWORD_FILE})"]
        return lines
