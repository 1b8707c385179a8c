"""What teachers said about clips, computed once and kept: logits by audio digest, under `SER_HOME/teacher_outputs/KEY`.

A student trial never runs a teacher. The key holds all that the logits depend on, so a stale file cannot be used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from ser_platform.errors import WorkFailed
from ser_platform.files import digest_of, replacing
from ser_platform.settings import Settings, as_json, home

VERSION = 1  # bump when the computation of teacher outputs changes


@dataclass(frozen=True)
class OutputsKey:
    """All that the logits of one fold teacher depend on.

    Attributes:
        mode: "out_of_fold": the teacher never saw the speakers that it labels.
        teacher_digest: of the registered bundle whose recipe the fold teacher follows.
        settings: the teacher's, its view among them.
        trained_on, labels_clips: audio digests, sorted.
        stop_after: epochs; fixed, so that the fold it labels decides nothing.
        labels: emotions in the order of the logits.
    """

    mode: str
    teacher_digest: str
    settings: Settings
    trained_on: tuple[str, ...]
    labels_clips: tuple[str, ...]
    stop_after: int
    labels: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Where the logits are kept."""
        content = {**asdict(self), "settings": as_json(self.settings), "calibration": "none", "version": VERSION}
        return home() / "teacher_outputs" / f"{digest_of(content, 32)}.safetensors"


def write_outputs(key: OutputsKey, hashes: Sequence[str], logits: NDArray[np.float32]) -> None:
    """Keep logits `(n_clips, n_emotions)` of the clips `hashes`."""
    with replacing(key.path) as temporary:
        save_file({"logits": np.ascontiguousarray(logits)}, temporary, metadata={"hashes": " ".join(hashes)})


def read_outputs(key: OutputsKey) -> dict[str, NDArray[np.float32]] | None:
    """Return logits `(n_emotions,)` by audio digest, or None where they are not computed yet."""
    if not key.path.exists():
        return None
    with safe_open(key.path, framework="np") as file:
        hashes, logits = file.metadata()["hashes"].split(" "), file.get_tensor("logits")
    return dict(zip(hashes, logits, strict=True))


def assemble(
    outputs: Sequence[Mapping[str, NDArray[np.float32]]],
    hashes: Sequence[str],
    train: NDArray[np.int64],
    n_emotions: int,
) -> NDArray[np.float32]:
    """Return `(n_clips, n_emotions)`, NaN for clips without a teacher.

    Raises:
        WorkFailed: a training clip was labelled by no teacher, or by two.
    """
    labelled: dict[str, NDArray[np.float32]] = {}
    for fold in outputs:
        for digest, values in fold.items():
            if digest in labelled:
                raise WorkFailed(f"two fold teachers labelled the clip {digest[:12]}")
            labelled[digest] = values
    logits = np.full((len(hashes), n_emotions), np.nan, dtype=np.float32)
    for row, digest in enumerate(hashes):  # two clips of one speaker may hold the same audio
        if digest in labelled:
            logits[row] = labelled[digest]
    if np.isnan(logits[train]).any():
        raise WorkFailed("some training clips were labelled by no teacher")
    return logits
