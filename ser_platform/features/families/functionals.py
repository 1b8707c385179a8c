"""Functionals of openSMILE: one row per clip; the standard acoustic parameter sets of the field.

Source: Eyben et al. (2016), GeMAPS, IEEE Transactions on Affective Computing 7(2); Schuller et al. (2016), ComParE.
openSMILE's licence allows research and education only, so the package is an optional extra.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ser_platform.corpora.audio.reader import SAMPLE_RATE
from ser_platform.errors import MissingExtra, UnknownChoice
from ser_platform.features.families.analysis import Analysis

if TYPE_CHECKING:
    import opensmile
    from torch import Tensor

SIZES = {"eGeMAPSv02": 88, "ComParE_2016": 6373}


@dataclass(frozen=True)
class Functionals:
    """The functionals of a parameter set, `(1, n_features)` per clip; undefined values are 0.

    Raises:
        MissingExtra: the package `opensmile` is not installed; raised on use, not on construction.
        UnknownChoice: there is no such parameter set.
    """

    version: ClassVar[int] = 1
    parameter_set: str = "eGeMAPSv02"
    sample_rate: int = SAMPLE_RATE  # Hz

    def __post_init__(self) -> None:
        if self.parameter_set not in SIZES:
            raise UnknownChoice("openSMILE parameter set", self.parameter_set, SIZES)

    @property
    def frame_s(self) -> float:
        return math.inf

    @property
    def n_features(self) -> int:
        return SIZES[self.parameter_set]

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(_load_extractor(self.parameter_set).feature_names)

    def __call__(self, analysis: Analysis) -> Tensor:
        import torch

        samples = analysis.audio.resample(self.sample_rate)
        values = _load_extractor(self.parameter_set).process_signal(samples, self.sample_rate).to_numpy(np.float32)
        return torch.nan_to_num(torch.from_numpy(values), posinf=0.0, neginf=0.0)


@lru_cache
def _load_extractor(parameter_set: str) -> opensmile.Smile:
    """Return the extractor of a parameter set, built once: building one reads its configuration."""
    try:
        import opensmile
    except ModuleNotFoundError as error:
        raise MissingExtra("opensmile", "opensmile") from error
    return opensmile.Smile(opensmile.FeatureSet[parameter_set], opensmile.FeatureLevel.Functionals)
