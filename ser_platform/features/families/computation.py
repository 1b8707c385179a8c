"""Computing the features of a clip, and the cache key of each family."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.audio.reader import DECODE_POLICY, Audio
from ser_platform.features.families.analysis import Analysis
from ser_platform.features.families.encoded import EncoderFamily
from ser_platform.features.families.family import Family
from ser_platform.files import digest_of


def family_cache_key(name: str, family: Family) -> str:
    """Return the cache key of a family: its name, and a digest of its parameters and of the decode policy."""
    digest = digest_of({"family": _describe_parameters(family), "decode": DECODE_POLICY}, 12)
    return f"{make_family_label(name, family)}-{digest}"


def make_family_label(name: str, family: Family) -> str:
    """Return the name of a family in its cache key; for an encoder, it does not depend on how the encoder was named."""
    return family.label if isinstance(family, EncoderFamily) else name


def _describe_parameters(value: Any) -> Any:
    """Return the class name, version and fields of a family and of all families in it, as JSON."""
    if isinstance(value, tuple):
        return [_describe_parameters(item) for item in value]
    if not is_dataclass(value):
        return value
    content = {field.name: _describe_parameters(getattr(value, field.name)) for field in fields(value)}
    return {"kind": type(value).__name__, "version": getattr(value, "version", 0), "fields": content}


def describe_empty_bands(family: Family, sample_rate: int) -> str | None:
    """Return a warning where a family has bands above half of the audio's sample rate (Hz), else None."""
    if family.sample_rate <= sample_rate:
        return None
    return (
        f"features up to {family.sample_rate / 2:g} Hz of audio at {sample_rate} Hz: "
        f"the bands above {sample_rate / 2:g} Hz are empty"
    )


def compute_features(
    audio: Audio, names: Iterable[str], families: Mapping[str, Family]
) -> dict[str, NDArray[np.float32]]:
    """Return the features of each named family, `(n_frames, n_features)` float32, of one clip."""
    import torch

    with torch.inference_mode():
        analysis = Analysis(audio)
        return {name: analysis.compute(families[name]).numpy() for name in names}
