"""Readers of the feature store for its tests."""

from pathlib import Path

import numpy as np

from ser_platform.corpora.corpus_lookup import FoundCorpus
from ser_platform.corpora.manifest import Manifest
from ser_platform.features.store.feature_store import StoredFamily
from ser_platform.features.store.folders import families_folder, family_folder

NAMES = ("log_mel", "rms")


def manifest_of(root: Path) -> Manifest:
    return FoundCorpus("ravdess", root).read_manifest()[0]


def hashes_of(manifest: Manifest) -> tuple[str, ...]:
    return tuple(manifest.column("audio_sha256"))


def folder(name: str) -> Path:
    return family_folder(families_folder(), name, "float32")


def data_of(name: str) -> list[Path]:
    return [path for path in sorted(folder(name).glob("*.npy")) if ".clips" not in path.name]


def features_of(manifest: Manifest) -> list[np.ndarray]:
    """Return all stored features, opened anew."""
    families = [StoredFamily(name, hashes_of(manifest)) for name in NAMES]
    return [family.read_clip(number).copy() for family in families for number in range(len(manifest))]
