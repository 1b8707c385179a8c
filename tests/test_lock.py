"""`requirements.lock` fixes every version that `make setup` installs, on each system and Python."""

import os
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
REQUIREMENTS = [
    Requirement(line)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in group
]
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"}
MACOS = {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64", "os_name": "posix"}


def read_lock(environment: dict[str, str]) -> dict[str, str]:
    """Return the locked version of each package for the markers of an environment."""
    lines = [line for line in LOCK.splitlines() if line and not line.startswith("#")]
    locked: dict[str, str] = {}
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (exact,) = requirement.specifier
            assert exact.operator == "==" and requirement.name not in locked, requirement
            locked[requirement.name] = exact.version
    return locked


def make_environment(system: dict[str, str], python: str) -> dict[str, str]:
    return {**default_environment(), **system, "python_version": python, "python_full_version": f"{python}.1"}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("system", [LINUX, MACOS], ids=["linux", "macos"])
def test_the_lock_satisfies_every_requirement_and_extra(system: dict[str, str], python: str) -> None:
    locked = read_lock(make_environment(system, python))
    for requirement in REQUIREMENTS:
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}, locked {version}: make lock"


def test_the_lock_fixes_what_its_packages_need_too() -> None:
    locked = read_lock(make_environment({}, default_environment()["python_version"]))
    seen: set[str] = set()
    waiting = list(REQUIREMENTS)
    while waiting:
        requirement = waiting.pop()
        for needed in find_needs(requirement, locked):
            name = canonicalize_name(needed.name)
            assert needed.specifier.contains(locked[name], prereleases=True), f"{requirement.name} needs {needed}"
            if str(needed) not in seen:
                seen.add(str(needed))
                waiting.append(needed)
    assert len(seen) > 100


def find_needs(requirement: Requirement, locked: dict[str, str]) -> Iterator[Requirement]:
    """Yield what a package needs here, by its installed metadata; nothing where another version is installed."""
    try:
        installed = distribution(requirement.name)
    except PackageNotFoundError:  # an extra that is not installed
        return
    if installed.version != locked[canonicalize_name(requirement.name)]:
        return
    for needed in map(Requirement, installed.requires or ()):
        extras = requirement.extras or {""}
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
            yield needed


def test_the_lock_names_no_package_index() -> None:
    assert "://" not in LOCK and "--" not in LOCK


@pytest.mark.parametrize(
    ("variables", "present", "absent"),
    [
        ([], "--constraint requirements.lock", "--extra-index-url 'made"),
        (["LOCKED=no"], "--editable '.[", "--constraint"),
        (["TORCH_INDEX=made"], "--constraint requirements.lock --extra-index-url 'made'", "LOCKED"),
    ],
)
def test_setup_installs_the_locked_versions_by_default(variables: list[str], present: str, absent: str) -> None:
    command = ["make", "--dry-run", "--always-make", "setup", *variables]
    environment = os.environ | {"MAKEFLAGS": ""}
    printed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert printed.count(present) == 2, "once for uv, once for pip"
    assert absent not in printed
