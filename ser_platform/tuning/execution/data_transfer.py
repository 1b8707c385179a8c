"""What trials read, sent to nodes that do not share the driver's `SER_HOME`.

The driver offers the stored features of a study, and the encoders that its trials hear with, as chunks of bytes in
Ray's object store, which spills to disk what is too much for memory. A process that lacks some of them writes them into
the store of its own node, one process a node, and then memory-maps them as always: there is one way to read features.
Nothing is offered where all nodes have the driver's `SER_HOME`; a node that joins later must share it, or have shared
what it was offered.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from ser_platform.encoders import Encoder, find_encoder, register_encoder, save_encoder
from ser_platform.errors import WorkFailed
from ser_platform.features.families.encoded import is_encoder_family_name
from ser_platform.features.store.extraction import family_folder, find_stored_digests
from ser_platform.features.store.feature_store import families_folder
from ser_platform.features.store.locks import hold_read_lock, hold_work_lock
from ser_platform.features.store.shard import FileStamp, Shard, ShardRecord, list_intact_shards, split_digests
from ser_platform.files import report_full_disk
from ser_platform.models import PRETRAINED
from ser_platform.settings import Settings, home
from ser_platform.training.configuration import feature_view, takes_waveform
from ser_platform.tuning.execution.shared_storage import find_nodes_with_home, has_joined_cluster, list_alive_nodes

CHUNK_BYTES = 32 << 20  # bytes


@dataclass(frozen=True)
class SentBytes:
    """Bytes in Ray's object store, in pieces, and the SHA-256 of all."""

    pieces: tuple[Any, ...]
    sha256: str

    @classmethod
    def put_file(cls, path: Path) -> "SentBytes":
        """Put a file into the object store."""
        digest, pieces = hashlib.sha256(), []
        with path.open("rb") as file:
            while content := file.read(CHUNK_BYTES):
                digest.update(content)
                pieces.append(ray.put(np.frombuffer(content, np.uint8)))
        return cls(tuple(pieces), digest.hexdigest())

    @classmethod
    def put(cls, content: bytes) -> "SentBytes":
        """Put bytes into the object store."""
        starts = range(0, len(content), CHUNK_BYTES)
        pieces = tuple(ray.put(np.frombuffer(content[first : first + CHUNK_BYTES], np.uint8)) for first in starts)
        return cls(pieces, hashlib.sha256(content).hexdigest())

    def iterate_pieces(self) -> Iterator[memoryview]:
        """Yield the bytes, a piece at a time.

        Raises:
            WorkFailed: they are not what was sent.
        """
        digest = hashlib.sha256()
        for piece in self.pieces:
            content = ray.get(piece).data
            digest.update(content)
            yield content
        if digest.hexdigest() != self.sha256:
            raise WorkFailed("what the driver sent of its feature store arrived altered; run the command again")

    def read(self) -> bytes:
        """Return all bytes."""
        return b"".join(self.iterate_pieces())

    def write_file(self, path: Path) -> None:
        """Write all bytes to a file; where that fails nothing stays."""
        try:
            with path.open("wb") as file:
                for piece in self.iterate_pieces():
                    file.write(piece)
        except BaseException:
            path.unlink(missing_ok=True)
            raise


@dataclass(frozen=True)
class SentPart:
    """A part of the driver's feature store: the family's folder, the name of the record, and all three files."""

    folder: str
    name: str
    record: ShardRecord
    data: SentBytes
    clips: SentBytes

    @classmethod
    def put(cls, part: Shard) -> "SentPart":
        """Put a part into the object store.

        Raises:
            WorkFailed: it is not what was written.
        """
        path, data, clips = part.paths
        sent = cls(path.parent.name, path.name, part.record, SentBytes.put_file(data), SentBytes.put_file(clips))
        if (sent.data.sha256, sent.clips.sha256) != (part.record.data.sha256, part.record.clips.sha256):
            raise WorkFailed(f"{data} was altered; drop it with `ser features verified`, and run the command again")
        return sent

    def receive(self) -> None:
        """Have the clips of the part in this node's store: written by one process, while others wait.

        Raises:
            WorkFailed: the disk is full, or the bytes were altered on their way.
        """
        folder = families_folder() / self.folder
        message = f"no space left in {folder} for features that trials read: make room there"
        with report_full_disk(lambda: message), hold_work_lock(folder, "receive"):
            clips = self.clips.read()
            table = np.load(io.BytesIO(clips), allow_pickle=False)
            if find_stored_digests(folder) >= set(split_digests(table["sha256"].tobytes())):
                return
            folder.mkdir(parents=True, exist_ok=True)
            self._write(Shard(folder / self.name, self.record))

    def _write(self, part: Shard) -> None:
        path, data, clips = part.paths
        try:
            self.data.write_file(data)
            self.clips.write_file(clips)
            mine = FileStamp.from_file(data, self.data.sha256), FileStamp.from_file(clips, self.clips.sha256)
            replace(self.record, data=mine[0], clips=mine[1]).write(path)
        except BaseException:
            part.remove()
            raise


@dataclass(frozen=True)
class SentEncoder:
    """An encoder: what is known of it and, where trials run it, the weights of its body."""

    description: dict[str, Any]
    weights: SentBytes | None

    @classmethod
    def put(cls, encoder: Encoder, with_weights: bool) -> "SentEncoder":
        """Put an encoder into the object store."""
        weights = None
        if with_weights:
            tensors = {name: value.contiguous() for name, value in encoder.body_weights().items()}
            weights = SentBytes.put(save_tensors(tensors))
        return cls(encoder.as_json(), weights)

    def receive(self) -> None:
        """Have this process know the encoder, and this node have its weights."""
        known = Encoder.from_json(self.description, None)
        register_encoder(known)
        if self.weights is None:
            return
        with hold_work_lock(home() / "encoders" / known.pin, "receive"):
            if not find_encoder(known.pinned_name).has_weights:
                save_encoder(Encoder.from_json(self.description, load_tensors(self.weights.read())))


@dataclass(frozen=True)
class Shipment:
    """What a study's trials read beside their task; nothing where every node has it."""

    parts: tuple[SentPart, ...] = ()
    encoders: tuple[SentEncoder, ...] = ()

    def receive(self, settings: Settings) -> None:
        """Have what a configuration reads in this node's `SER_HOME`; a process asks for each thing once."""
        for encoder in self.encoders:
            _receive_once((home(), encoder.description["digest"], encoder.weights is None), encoder)
        if not self.parts:
            return
        root, dtype = families_folder(), settings.features.dtype
        needed = {family_folder(root, name, dtype).name for name in feature_view(settings).required_families}
        for part in self.parts:
            if part.folder in needed:
                _receive_once((home(), part.folder, part.name), part)


EMPTY_SHIPMENT = Shipment()
_received: set[tuple[object, ...]] = set()  # what this process has seen in its store, and holds a lease of
_put_cache: dict[tuple[object, ...], Any] = {}  # what this process has put into the object store, by Ray's job


def _receive_once(key: tuple[object, ...], sent: SentPart | SentEncoder) -> None:
    if key not in _received:
        sent.receive()
        _received.add(key)


def make_shipment(names: Iterable[str], dtype: str, hashes: Sequence[str], tuned: Iterable[str] = ()) -> Shipment:
    """Return what nodes without this process's `SER_HOME` need: stored families of clips, and encoders.

    Args:
        names: families, of `FAMILIES`.
        dtype: in which they are stored.
        hashes: digests of the clips.
        tuned: encoders that trials run, by name.
    """
    if not has_joined_cluster() or find_nodes_with_home() >= list_alive_nodes():
        return EMPTY_SHIPMENT
    names, tuned, wanted = list(names), list(tuned), {bytes.fromhex(digest) for digest in hashes}
    parts = [part for name in names for part in _put_parts(family_folder(families_folder(), name, dtype), wanted)]
    frozen_encoders = {name.rpartition(".")[0] for name in names if is_encoder_family_name(name)} - set(tuned)
    encoders = [
        _put_encoder(name, with_weights)
        for some, with_weights in ((frozen_encoders, False), (tuned, True))
        for name in some
    ]
    return Shipment(tuple(parts), tuple(encoders))


def make_shipment_for(settings: Settings, hashes: Sequence[str]) -> Shipment:
    """Return what one configuration needs that is trained on clips of these digests."""
    if not has_joined_cluster():
        return EMPTY_SHIPMENT
    return make_shipment(
        feature_view(settings).required_families, settings.features.dtype, hashes, list_tuned_encoders([settings])
    )


def list_tuned_encoders(configurations: Iterable[Settings]) -> list[str]:
    """Return the encoders whose weights these configurations train, by name."""
    on_encoder = (each for each in configurations if each.model.name in PRETRAINED and takes_waveform(each))
    return list(dict.fromkeys(str(each.model.backbone) for each in on_encoder))


def _put_parts(folder: Path, wanted: set[bytes]) -> list[SentPart]:
    """Return the parts of a family that hold wanted clips, largest first, none for clips that one before it holds."""
    chosen, left = [], set(wanted)
    with hold_read_lock(folder):
        for part in list_intact_shards(folder):
            if left.intersection(part.hashes):
                left.difference_update(part.hashes)
                key = (_find_job_id(), part.path)
                if key not in _put_cache:
                    _put_cache[key] = SentPart.put(part)
                chosen.append(_put_cache[key])
    return chosen


def _put_encoder(name: str, with_weights: bool) -> SentEncoder:
    encoder = find_encoder(name)
    key = (_find_job_id(), encoder.digest, with_weights)
    if key not in _put_cache:
        _put_cache[key] = SentEncoder.put(encoder, with_weights)
    sent: SentEncoder = _put_cache[key]
    return sent


def _find_job_id() -> str:
    return str(ray.get_runtime_context().get_job_id())
