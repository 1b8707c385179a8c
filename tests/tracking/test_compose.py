"""The compose file, as far as it can be checked without Docker."""

import re
from pathlib import Path

import pytest
import yaml

PATH = Path(__file__).resolve().parents[2] / "mlflow" / "compose.yaml"
SERVICES = yaml.safe_load(PATH.read_text())["services"]


def test_every_image_and_package_is_pinned():
    images = [service["image"] for service in SERVICES.values() if "image" in service]
    built = SERVICES["mlflow"]["build"]["dockerfile_inline"]
    images += re.findall(r"^FROM (\S+)", built, re.MULTILINE)
    assert all(re.search(r":[\w.-]*\d", image) and "latest" not in image for image in images)
    packages = re.findall(r"'([^']+)'", built)
    assert len(packages) == 4 and all("==" in package for package in packages)


def test_ports_are_open_on_this_machine_only():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:5000:5000"]


def test_secrets_come_from_the_environment_and_are_required():
    secret = re.compile(r"PASSWORD|SECRET|MC_HOST")
    values = [
        str(value)
        for service in SERVICES.values()
        for name, value in service.get("environment", {}).items()
        if secret.search(name) or "@" in str(value)
    ]
    assert len(values) == 7
    assert all(re.search(r"\$\{\w+:\?", value) for value in values)


@pytest.mark.parametrize("name", ["postgres", "artefacts", "mlflow"])
def test_services_that_others_wait_for_have_a_health_check(name):
    assert SERVICES[name]["healthcheck"]["test"]


def test_the_server_requires_a_password_and_runs_no_jobs():
    server = SERVICES["mlflow"]
    assert "--app-name=basic-auth" in server["command"]
    assert any(word.startswith("--allowed-hosts=") for word in server["command"])
    assert server["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
