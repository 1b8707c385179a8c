"""Every way to install the platform finds the folders that it ships; a wheel holds nothing else."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from ser_platform.shipped_folders import find_checkout, find_shipped

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = {"search_spaces": ("*.yaml", "*.json", "README.md"), "jobs": ("*.py",), "mlflow": ("*.yaml", "README.md")}
WHERE = "import ser_platform.shipped_folders as f; print(f.__file__, f.find_checkout(), f.find_shipped('jobs'))"
IN_WHEEL = """
import ser_platform
from ser_platform.cli.spaces import known_spaces
from ser_platform.shipped_folders import find_checkout
from ser_platform.tracking.gate_inputs import read_policy
from ser_platform.tuning.execution.job_submission import SCRIPTS_FOLDER, VERBS
spaces = sorted(known_spaces().values())
scripts = [SCRIPTS_FOLDER / f"{verb}.py" for verb in VERBS]
policy = read_policy(None, "ser-student")[1]
assert find_checkout() is None
for path in (ser_platform.__file__, *spaces, *scripts, policy):
    print(path)
"""


def run(*command: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Return what a command prints; modules in `path` are found before installed ones."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {} if path is None else {"PYTHONPATH": str(path)}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(kind: str, source: Path, out: Path) -> Path:
    """Return the one file of a kind that setuptools builds: an sdist, a wheel or an editable wheel."""
    out.mkdir()
    run(sys.executable, "-c", f"from setuptools import build_meta as b; b.build_{kind}({str(out)!r})", cwd=source)
    (built,) = out.iterdir()
    return built


def files_of(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, in which builds leave their files, with private and compiled files added."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("ser_platform", "tests", *SHIPPED):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for private in (".env", "mlflow/.env", "mlflow/mlflow.db", "search_spaces/notes.txt", "ser_platform/notes.txt"):
        (copy / private).write_text("private")
    for folder in ("ser_platform", "jobs"):
        (copy / folder / "__pycache__").mkdir()
        (copy / folder / "__pycache__" / "old.cpython-311.pyc").write_bytes(b"")
    return copy


@pytest.fixture(scope="module")
def wheel(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the source distribution."""
    root = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build("sdist", copy, root / "sdist")) as archive:
        archive.extractall(root, filter="data")
    (source,) = root.glob("ser_platform-*")
    return build("wheel", source, root / "wheel")


def test_a_wheel_holds_the_platform_and_what_it_ships_and_nothing_else(copy: Path, wheel: Path, tmp_path: Path) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ser_platform").rglob("*.py")}
    shipped = {
        f"ser_platform/shipped/{path.relative_to(ROOT).as_posix()}"
        for folder, patterns in SHIPPED.items()
        for pattern in patterns
        for path in (ROOT / folder).glob(pattern)
    }
    assert files_of(wheel) == modules | shipped | {"ser_platform/py.typed"}
    assert files_of(build("wheel", copy, tmp_path / "direct")) == files_of(wheel)
    information = {name.partition(".dist-info/")[2] for name in zipfile.ZipFile(wheel).namelist()}
    assert {"METADATA", "entry_points.txt", "licenses/LICENSE"} <= information


def test_an_installed_wheel_finds_search_spaces_jobs_and_the_policy(wheel: Path, tmp_path: Path) -> None:
    target, away = tmp_path / "target", tmp_path / "away"
    away.mkdir()
    install = ("install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", target, wheel)
    run(sys.executable, "-m", "pip", *install, cwd=away)
    shipped = target / "ser_platform" / "shipped"
    found = [target / "ser_platform" / "__init__.py"]
    found += [shipped / "search_spaces" / path.name for path in sorted((ROOT / "search_spaces").glob("*.yaml"))]
    found += [shipped / "jobs" / "tune.py", shipped / "jobs" / "train.py", shipped / "mlflow" / "promotion_policy.yaml"]
    assert [Path(line) for line in run(sys.executable, "-c", IN_WHEEL, cwd=away, path=target).splitlines()] == found
    assert all(path.is_file() for path in found)
    assert " tune " in run(target / "bin" / "ser", "--help", cwd=away, path=target)


def test_a_checkout_finds_the_folders_beside_the_package(copy: Path, tmp_path: Path) -> None:
    beside = [str(copy / "ser_platform" / "shipped_folders.py"), str(copy), str(copy / "jobs")]
    assert run(sys.executable, "-S", "-c", WHERE, cwd=tmp_path, path=copy).split() == beside
    assert find_checkout() == ROOT
    assert all(find_shipped(folder) == ROOT / folder and (ROOT / folder).is_dir() for folder in SHIPPED)


def test_an_editable_installation_finds_the_folders_of_its_checkout(copy: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(build("editable", copy, tmp_path / "editable")) as archive:
        archive.extractall(tmp_path / "site")
    where = f"import site; site.addsitedir({str(tmp_path / 'site')!r}); {WHERE}"
    beside = [str(copy / "ser_platform" / "shipped_folders.py"), str(copy), str(copy / "jobs")]
    assert run(sys.executable, "-S", "-c", where, cwd=tmp_path).split() == beside  # -S: no other installation
