"""From a clip, or a batch of clips, to the features of the families asked for; and each family's address in a cache."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ser_platform.corpora.audio.reader import DECODE_POLICY, Audio
from ser_platform.features.families.analysis import LIBROSA_STFT, SPEECH_STFT, Analysis, Stft
from ser_platform.features.families.encoded import EncoderFamily
from ser_platform.features.families.family import Delta, Family, Stack, StftFamily
from ser_platform.features.families.functionals import Functionals
from ser_platform.features.families.pitch import F0
from ser_platform.features.families.spectral import (
    Bandwidth,
    Centroid,
    Chroma,
    Contrast,
    DecibelMel,
    Flatness,
    LogMel,
    MelPower,
    Mfcc,
    Rolloff,
    Tonnetz,
)
from ser_platform.features.families.temporal import Rms, Waveform, Zcr
from ser_platform.files import digest_of

__all__ = [
    "F0",
    "LIBROSA_STFT",
    "SPEECH_STFT",
    "Analysis",
    "Bandwidth",
    "Centroid",
    "Chroma",
    "Contrast",
    "DecibelMel",
    "Delta",
    "Family",
    "Flatness",
    "Functionals",
    "LogMel",
    "MelPower",
    "Mfcc",
    "Rms",
    "Rolloff",
    "Stack",
    "Stft",
    "StftFamily",
    "Tonnetz",
    "Waveform",
    "Zcr",
    "compute_features",
    "compute_features_batch",
    "describe_empty_bands",
    "family_cache_key",
    "family_label",
]


def family_cache_key(name: str, family: Family) -> str:
    """Return the cache address of a family: its name and a digest of what it is made of and of the decode policy."""
    made = digest_of({"family": _describe_parameters(family), "decode": DECODE_POLICY}, 12)
    return f"{family_label(name, family)}-{made}"


def family_label(name: str, family: Family) -> str:
    """Return what a family is called in a cache: an encoder's the same however it was spelled."""
    return family.label if isinstance(family, EncoderFamily) else name


def _describe_parameters(value: Any) -> Any:
    """Return the kind, version and fields of a family and of all families in it, as JSON."""
    if isinstance(value, tuple):
        return [_describe_parameters(item) for item in value]
    if not is_dataclass(value):
        return value
    content = {field.name: _describe_parameters(getattr(value, field.name)) for field in fields(value)}
    return {"kind": type(value).__name__, "version": getattr(value, "version", 0), "fields": content}


def describe_empty_bands(family: Family, sample_rate: int) -> str | None:
    """Return a warning where a family listens above what audio of this rate (Hz) holds, else None; callers print it."""
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
    with torch.inference_mode():
        analysis = Analysis(audio)
        return {name: analysis.compute(families[name]).numpy() for name in names}


def compute_features_batch(
    audios: Sequence[Audio],
    names: Iterable[str],
    families: Mapping[str, Family],
    device: torch.device | str = "cpu",
) -> list[dict[str, NDArray[np.float32]]]:
    """Return for each clip what `compute_features` returns, up to rounding; all but resampling runs on `device`.

    Clips are padded to the longest: batches of similar length waste least.
    """
    if not audios:
        return []
    names = list(names)
    with torch.inference_mode():
        analysis = Analysis(audios, device)
        values = {name: analysis.compute(families[name]).cpu().numpy() for name in names}
    rows = {name: families[name].count_rows(analysis) for name in names}
    return [{name: values[name][clip, : rows[name][clip]] for name in names} for clip in range(len(audios))]
