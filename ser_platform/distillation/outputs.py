"""What teachers said about clips, computed once and kept: logits by audio digest, under `SER_HOME/teacher/KEY`.

A student trial never runs a teacher. The key holds all that the logits depend on, so a stale file cannot be used.
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
    """Calibrated logits of a teacher: its softmax is as sure as it is right on clips that it has not heard.

    Attributes:
        clip_logits: of the clips of a manifest, `(n_clips, n_emotions)`, NaN where no teacher was asked.
        copy_logits: of their copies, `(n_copies, n_emotions)`, NaN where no teacher was asked.
        unlabelled_logits: of clips without a label, `(n_unlabelled, n_emotions)`.
        temperature: by which the logits were divided.
    """

    clip_logits: NDArray[np.float32]
    copy_logits: NDArray[np.float32]
    unlabelled_logits: NDArray[np.float32]
    temperature: float = 1.0

    def select(self, chosen: NDArray[np.int64], n_unlabelled: int = 0) -> NDArray[np.float32]:
        """Return the logits of all clips, of the copies with the numbers `chosen`, and of unlabelled ones."""
        return np.concatenate([self.clip_logits, self.copy_logits[chosen], self.unlabelled_logits[:n_unlabelled]])


@dataclass(frozen=True)
class OutputsKey:
    """All that the logits of one teacher depend on.

    Attributes:
        kind: `FOLD`, trained for this by a registered teacher's recipe, or `REGISTERED`, that teacher itself.
        teacher_digest: of the registered bundle.
        settings: the teacher's, its view among them.
        trained_on, labels_clips: audio digests, sorted; of a registered teacher its bundle says whom it heard.
        stop_after: epochs; fixed, so that the fold it labels decides nothing.
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
        """Where the logits are kept."""
        content = vars(self) | {"settings": self.settings.dotted(), "calibration": "none", "version": VERSION}
        return outputs_folder() / f"{digest_of(content, 32)}.safetensors"

    @property
    def description(self) -> dict[str, str]:
        """What a list of outputs says of these."""
        return {
            "kind": self.kind,
            "teacher": self.teacher_digest,
            "model": self.settings.model.name,
            "heard": str(len(self.trained_on)),
            "emotions": " ".join(self.labels),
        }


def outputs_folder() -> Path:
    """Return where teacher outputs are kept."""
    return home() / "teacher_outputs"


def write_outputs(key: OutputsKey, hashes: Sequence[str], logits: NDArray[np.float32], title: str = "") -> None:
    """Keep logits `(n_clips, n_emotions)` of the clips `hashes`; `title` names the teacher to people."""
    metadata = {"hashes": " ".join(hashes), "title": title, **key.description}
    with replacing(key.path) as temporary:
        save_file({"logits": np.ascontiguousarray(logits)}, temporary, metadata=metadata)


def read_outputs(key: OutputsKey) -> dict[str, NDArray[np.float32]] | None:
    """Return logits `(n_emotions,)` by audio digest, or None where they are not computed yet."""
    if not key.path.exists():
        return None
    try:
        with safe_open(key.path, framework="np") as file:
            hashes, logits = file.metadata()["hashes"].split(" "), file.get_tensor("logits")
    except SafetensorError:
        return None  # damaged: computed again
    with contextlib.suppress(OSError):  # a colleague's folder, which may be read alone
        os.utime(key.path)
    return dict(zip(hashes, logits, strict=True))


@dataclass(frozen=True)
class StoredOutputs:
    """A file of teacher outputs as a list shows it. `readable` is False of one that is damaged."""

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
        """When a study read them last, or they were written: seconds since the epoch."""
        return self.path.stat().st_mtime


def list_outputs() -> list[StoredOutputs]:
    """Return all teacher outputs that are kept, the last used first."""
    whole = (path for path in outputs_folder().glob("*.safetensors") if not path.name.startswith("."))
    paths = sorted(whole, key=lambda path: (-path.stat().st_mtime, path.name))
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
    """Return logits `(n_clips, n_emotions)` of the clips `hashes`, NaN for those without a teacher.

    Raises:
        WorkFailed: a clip was labelled by two teachers.
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
    """Refuse clips without a teacher.

    Raises:
        WorkFailed: there is one.
    """
    if np.isnan(logits).any():
        raise WorkFailed("some training clips were labelled by no teacher")


def _order_by_hash(
    labelled: Mapping[str, NDArray[np.float32]], hashes: Sequence[str], n_emotions: int
) -> NDArray[np.float32]:
    logits = np.full((len(hashes), n_emotions), np.nan, dtype=np.float32)
    for row, digest in enumerate(hashes):  # two clips of one speaker may hold the same audio
        if digest in labelled:
            logits[row] = labelled[digest]
    return logits
