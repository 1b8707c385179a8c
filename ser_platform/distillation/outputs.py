"""Stored teacher logits, by audio digest: `SER_HOME/teacher_outputs/KEY.safetensors`.

A student trial never runs a teacher. The key covers everything that the logits depend on, so no stale file is read.
"""

import contextlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ser_platform.errors import WorkFailed
from ser_platform.files import digest_of, replacing
from ser_platform.settings import Settings, home

VERSION = 2  # bump when the computation of teacher outputs changes
OUT_OF_FOLD, IN_SAMPLE, ENSEMBLE = ("out_of_fold", "in_sample", "ensemble")
FOLD, REGISTERED = "fold", "registered"


@dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's logits, calibrated on clips that it was not trained on.

    Attributes:
        clip_logits: logits of a manifest's clips, `(n_clips, n_emotions)`; NaN without a teacher.
        copy_logits: logits of their augmented copies, `(n_copies, n_emotions)`; NaN without a teacher.
        unlabelled_logits: logits of clips without a label, `(n_unlabelled, n_emotions)`.
        temperature: the calibration temperature, > 0, by which the logits were divided.
    """

    clip_logits: NDArray[np.float32]
    copy_logits: NDArray[np.float32]
    unlabelled_logits: NDArray[np.float32]
    temperature: float = 1.0

    def select(self, chosen: NDArray[np.int64], n_unlabelled: int = 0) -> NDArray[np.float32]:
        """Return `(n_rows, n_emotions)`: all clips, the copies `chosen`, the first `n_unlabelled` unlabelled clips."""
        return np.concatenate([self.clip_logits, self.copy_logits[chosen], self.unlabelled_logits[:n_unlabelled]])


@dataclass(frozen=True)
class OutputsKey:
    """Everything that the logits of one teacher depend on.

    Attributes:
        kind: `FOLD` for a teacher trained on a fold with a registered teacher's settings, or `REGISTERED`.
        teacher_digest: digest of the registered bundle.
        settings: the teacher's settings, with its feature view.
        trained_on, labels_clips: audio digests of the clips, sorted.
        stop_after: number of epochs; fixed beforehand, so that the fold to label has no influence.
        labels: emotions in the order of the logits.
    """

    kind: str
    teacher_digest: str
    settings: Settings
    trained_on: tuple[str, ...]
    labels_clips: tuple[str, ...]
    stop_after: int
    labels: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The file of the logits."""
        content = vars(self) | {"settings": self.settings.dotted(), "calibration": "none", "version": VERSION}
        return outputs_folder() / f"{digest_of(content, 32)}.safetensors"

    @property
    def description(self) -> dict[str, str]:
        """The metadata of the file, which `list_outputs` reads."""
        return {
            "kind": self.kind,
            "teacher": self.teacher_digest,
            "model": self.settings.model.name,
            "heard": str(len(self.trained_on)),
            "emotions": " ".join(self.labels),
        }


def outputs_folder() -> Path:
    """Return the folder of all stored teacher outputs."""
    return home() / "teacher_outputs"


def write_outputs(key: OutputsKey, hashes: Sequence[str], logits: NDArray[np.float32], title: str = "") -> None:
    """Write logits `(n_clips, n_emotions)` of the clips `hashes`; `title` is the teacher's readable name."""
    metadata = {"hashes": " ".join(hashes), "title": title, **key.description}
    with replacing(key.path) as temporary:
        save_file({"logits": np.ascontiguousarray(logits)}, temporary, metadata=metadata)


def read_outputs(key: OutputsKey) -> dict[str, NDArray[np.float32]] | None:
    """Return logits `(n_emotions,)` by audio digest, or None where there is no file or it is damaged."""
    if not key.path.exists():
        return None
    try:
        with safe_open(key.path, framework="np") as file:
            hashes, logits = file.metadata()["hashes"].split(" "), file.get_tensor("logits")
    except SafetensorError:
        return None
    with contextlib.suppress(OSError):  # the folder may be read-only
        os.utime(key.path)
    return dict(zip(hashes, logits, strict=True))


@dataclass(frozen=True)
class StoredOutputs:
    """A file of teacher outputs, as `list_outputs` returns it."""

    path: Path
    description: Mapping[str, str]
    n_clips: int
    is_readable: bool = True

    @property
    def teacher_digest(self) -> str:
        return self.description.get("teacher", "")

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    @property
    def used_at(self) -> float:
        """The time of the last read by a study, or else of the write, in seconds since 1970."""
        return self.path.stat().st_mtime


def list_outputs() -> list[StoredOutputs]:
    """Return all stored teacher outputs, the last used first."""
    complete = (path for path in outputs_folder().glob("*.safetensors") if not path.name.startswith("."))
    paths = sorted(complete, key=lambda path: (-path.stat().st_mtime, path.name))
    return [_read_stored(path) for path in paths]


def _read_stored(path: Path) -> StoredOutputs:
    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return StoredOutputs(path, {}, 0, is_readable=False)
    return StoredOutputs(path, metadata, len(metadata.pop("hashes", "").split()))


def merge_fold_outputs(
    outputs: Sequence[Mapping[str, NDArray[np.float32]]], hashes: Sequence[str], n_emotions: int
) -> NDArray[np.float32]:
    """Return logits `(n_clips, n_emotions)` of the clips `hashes`, NaN for clips without a teacher.

    Raises WorkFailed where two teachers labelled the same clip.
    """
    labelled: dict[str, NDArray[np.float32]] = {}
    for fold in outputs:
        for digest, values in fold.items():
            if digest in labelled:
                raise WorkFailed(f"two fold teachers labelled the clip {digest[:12]}")
            labelled[digest] = values
    return _order_by_hash(labelled, hashes, n_emotions)


def average_outputs(
    outputs: Sequence[Mapping[str, NDArray[np.float32]]], hashes: Sequence[str], n_emotions: int
) -> NDArray[np.float32]:
    """Return mean logits `(n_clips, n_emotions)` over the teachers that labelled each clip, NaN where none did."""
    rows = [_order_by_hash(fold, hashes, n_emotions) for fold in outputs]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        mean: NDArray[np.float32] = np.nanmean(np.stack(rows), axis=0)
    return mean


def require_labelled(logits: NDArray[np.float32]) -> None:
    """Raise WorkFailed where the logits of a clip are NaN, because no teacher labelled it."""
    if np.isnan(logits).any():
        raise WorkFailed("some training clips were labelled by no teacher")


def _order_by_hash(
    labelled: Mapping[str, NDArray[np.float32]], hashes: Sequence[str], n_emotions: int
) -> NDArray[np.float32]:
    logits = np.full((len(hashes), n_emotions), np.nan, dtype=np.float32)
    for row, digest in enumerate(hashes):  # two clips of one speaker may have the same audio
        if digest in labelled:
            logits[row] = labelled[digest]
    return logits
