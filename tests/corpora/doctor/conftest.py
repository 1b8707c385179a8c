"""A healthy corpus that tests change: noises with EmoDB names, each a different recording."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.corpora.doctor.diagnosis import Finding, diagnose
from ser_platform.corpora.doctor.examination import examine

SPEAKERS = ("03", "08", "09", "10", "11", "12")
CLIPS = ("a01Wa", "a02Wb", "a01Fa", "a02Na")  # anger twice, happiness, neutral


def sound(seed: int, seconds: float = 1.2) -> np.ndarray:
    """Return noise whose level falls, so that there is a loud and a quiet part."""
    n_samples = round(seconds * 16_000)
    return np.random.default_rng(seed).normal(0, 0.1, n_samples) * np.geomspace(1, 0.01, n_samples)


@pytest.fixture(scope="session")
def _healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("healthy")
    for number, name in enumerate(f"{speaker}{clip}" for speaker in SPEAKERS for clip in CLIPS):
        soundfile.write(root / f"{name}.wav", sound(number), 16_000)
    return root


@pytest.fixture
def healthy(_healthy: Path, tmp_path: Path) -> Path:
    """A folder with 24 clips of 6 speakers, to change at will."""
    return Path(shutil.copytree(_healthy, tmp_path / "healthy"))


@pytest.fixture
def findings() -> Callable[..., dict[str, Finding]]:
    """A function that returns the findings about a folder by code."""

    def find(root: Path, max_bad: float = 0.05, **how: Any) -> dict[str, Finding]:
        diagnosed = diagnose(examine(CorpusRequest(str(root), **how), jobs=1), max_bad)
        assert len({finding.code for finding in diagnosed}) == len(diagnosed)
        return {finding.code: finding for finding in diagnosed}

    return find
