"""The folders that come with the platform: a checkout has them beside the package, a wheel inside it."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
IN_WHEEL = PACKAGE / "shipped"  # pyproject.toml maps the folders there; a checkout has no such folder


def find_shipped(folder: str) -> Path:
    """Return the path of `search_spaces`, `jobs` or `mlflow` as the platform ships it."""
    return (find_checkout() or IN_WHEEL) / folder


def find_checkout() -> Path | None:
    """Return the root of the checkout that this code runs from; None where it is installed from a wheel."""
    return None if IN_WHEEL.is_dir() else PACKAGE.parent
