"""The folders of the stored features under `SER_HOME`."""

from pathlib import Path

from ser_platform.features.families import FAMILIES
from ser_platform.features.families.computation import family_cache_key
from ser_platform.settings import home


def families_folder() -> Path:
    """Return the folder of the stored features under `SER_HOME`."""
    return home() / "features"


def family_folder(root: Path, name: str, dtype: str) -> Path:
    """Return the folder of a family, named by its cache key and dtype."""
    return root / f"{family_cache_key(name, FAMILIES[name])}-{dtype}"
