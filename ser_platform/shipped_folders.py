"""Finds the data folders of the platform: beside the package in a checkout, inside it in a wheel."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
IN_WHEEL = PACKAGE / "shipped"  # pyproject.toml maps the folders there; a checkout has no such folder


def find_shipped(folder: str) -> Path:
    """Return the path of `search_spaces`, `jobs` or `mlflow` of this installation."""
    return (find_checkout() or IN_WHEEL) / folder


def find_checkout() -> Path | None:
    """Return the root of the checkout that this code runs from; None where it is installed from a wheel."""
    return None if IN_WHEEL.is_dir() else PACKAGE.parent
