"""Checkpoints: the state of a training after an epoch, in a folder of safetensors and JSON, without pickle.

`checkpoint.json` contains the metadata, and the name and digest of the file of tensors. Tensors are written first,
under a new name, so an interruption leaves the old checkpoint or the new one.
"""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ser_platform.errors import WorkFailed
from ser_platform.files import digest_of, read_json, sha256_of, write_json

FORMAT = 1
CHECKPOINT_FILE = "checkpoint.json"
TENSORS = "tensors-"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training: `tensors` on the CPU by dotted name, and all other values as JSON."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return len(self.metadata["results"])

    def tensors_under(self, name: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with `name` and a dot, by the rest of their names."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


def write_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write `checkpoint` into `folder`, and remove the previous checkpoint there."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = folder / f"{TENSORS}{uuid.uuid4().hex[:16]}.safetensors"
    save_file({name: value.contiguous() for name, value in checkpoint.tensors.items()}, tensors)
    content = {
        "format": FORMAT,
        "tensors": tensors.name,
        "sha256": sha256_of(tensors),
        "description": checkpoint.metadata,
    }
    write_json(folder / CHECKPOINT_FILE, {**content, "digest": digest_of(content)})
    for old in set(folder.glob(f"{TENSORS}*")) - {tensors}:
        old.unlink()


def read_checkpoint(folder: Path) -> Checkpoint:
    """Return the checkpoint in `folder`.

    Raises WorkFailed where there is none, or where it has another format or does not match its digests.
    """
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        raise WorkFailed(f"{folder} contains no checkpoint ({CHECKPOINT_FILE} is missing)")
    content = read_json(path)
    if not isinstance(content, dict) or content.pop("digest", None) != digest_of(content):
        raise WorkFailed(f"{path} is damaged: it does not match its digest; remove {folder} to start again")
    if content["format"] != FORMAT:
        raise WorkFailed(f"{path}: checkpoint format {content['format']!r} is not {FORMAT}, which this version reads")
    tensors = folder / content["tensors"]
    if not tensors.is_file() or sha256_of(tensors) != content["sha256"]:
        raise WorkFailed(f"{tensors} is missing or damaged: {CHECKPOINT_FILE} has another digest; remove {folder}")
    try:
        return Checkpoint(load_file(tensors), content["description"])
    except SafetensorError as error:
        raise WorkFailed(f"{tensors} cannot be read: {error}") from error
