"""Transfer of features and encoders to nodes that do not share the driver's `SER_HOME`.

The driver puts the stored features of a study, and the encoders of its trials, as chunks of bytes into Ray's object
store, which spills to disk. A process that lacks some of them writes them into the feature store of its own node (one
process a node writes) and memory-maps them as always. Nothing is sent if all nodes share the driver's `SER_HOME`; a
node that joins later then must share it too.
"""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import ray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from ser_platform.encoders import Encoder, find_encoder, register_encoder, save_encoder
from ser_platform.errors import WorkFailed
from ser_platform.features.families.encoded import is_encoder_family_name
from ser_platform.features.store.extraction import find_stored_digests
from ser_platform.features.store.folders import families_folder, family_folder
from ser_platform.features.store.locks import hold_read_lock, hold_work_lock
from ser_platform.features.store.shard import FileStamp, Shard, ShardRecord, list_intact_shards, split_digests
from ser_platform.files import report_full_disk
from ser_platform.models import PRETRAINED
from ser_platform.settings import Settings, home
from ser_platform.training.configuration import feature_view, takes_waveform
from ser_platform.tuning.execution.shared_storage import find_nodes_with_home, has_joined_cluster, list_alive_nodes

CHUNK_BYTES = 32 << 20
T = TypeVar("T")


@dataclass(frozen=True)
class SentBytes:
    """Bytes in Ray's object store, as references to pieces, and the SHA-256 of all bytes."""

    pieces: tuple[Any, ...]
    sha256: str

    @classmethod
    def put_file(cls, path: Path) -> "SentBytes":
        """Put a file into the object store."""
        with path.open("rb") as file:
            return cls.put(file)

    @classmethod
    def put(cls, file: BinaryIO) -> "SentBytes":
        """Put the bytes of an open file into the object store."""
        digest, pieces = hashlib.sha256(), []
        while content := file.read(CHUNK_BYTES):
            digest.update(content)
            pieces.append(ray.put(np.frombuffer(content, np.uint8)))
        return cls(tuple(pieces), digest.hexdigest())

    def iterate_pieces(self) -> Iterator[memoryview]:
        """Yield the bytes, a piece at a time.

        Raises:
            WorkFailed: the bytes were altered.
        """
        digest = hashlib.sha256()
        for piece in self.pieces:
            content = ray.get(piece).data
            digest.update(content)
            yield content
        if digest.hexdigest() != self.sha256:
            raise WorkFailed("data that the driver sent to this node was altered on the way; run the command again")

    def read(self) -> bytes:
        """Return all bytes."""
        return b"".join(self.iterate_pieces())

    def write_file(self, path: Path) -> None:
        """Write all bytes to a file."""
        with path.open("wb") as file:
            for piece in self.iterate_pieces():
                file.write(piece)


@dataclass(frozen=True)
class SentPart:
    """A shard of the driver's feature store: the family's folder, and the name and contents of its three files."""

    folder: str
    name: str
    record: ShardRecord
    data: SentBytes
    clips: SentBytes

    @classmethod
    def put(cls, part: Shard) -> "SentPart":
        """Put a shard into the object store.

        Raises:
            WorkFailed: its files were altered.
        """
        path, data, clips = part.paths
        sent = cls(path.parent.name, path.name, part.record, SentBytes.put_file(data), SentBytes.put_file(clips))
        if (sent.data.sha256, sent.clips.sha256) != (part.record.data.sha256, part.record.clips.sha256):
            raise WorkFailed(f"{data} was altered; remove it with `ser features verify`, and run the command again")
        return sent

    def receive(self) -> None:
        """Write the shard into this node's store unless it has the clips; one process writes, others wait.

        Raises:
            WorkFailed: the disk is full, or the bytes were altered.
        """
        folder = families_folder() / self.folder
        message = f"no space left in {folder} for the features of trials; free some space there"
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
    """An encoder's description and, if trials run it, its weights."""

    description: dict[str, Any]
    weights: SentBytes | None

    @classmethod
    def put(cls, encoder: Encoder, with_weights: bool) -> "SentEncoder":
        """Put an encoder into the object store."""
        weights = None
        if with_weights:
            tensors = {name: value.contiguous() for name, value in encoder.body_weights().items()}
            weights = SentBytes.put(io.BytesIO(save_tensors(tensors)))
        return cls(encoder.as_json(), weights)

    def receive(self) -> None:
        """Register the encoder in this process, and save its weights on this node if it lacks them."""
        known = Encoder.from_json(self.description, None)
        register_encoder(known)
        if self.weights is None:
            return
        with hold_work_lock(home() / "encoders" / known.pin, "receive"):
            if not find_encoder(known.pinned_name).has_weights:
                save_encoder(Encoder.from_json(self.description, load_tensors(self.weights.read())))


@dataclass(frozen=True)
class Shipment:
    """Features and encoders of a study's trials; empty if every node has them."""

    parts: tuple[SentPart, ...] = ()
    encoders: tuple[SentEncoder, ...] = ()

    def receive(self, settings: Settings) -> None:
        """Write the data of a configuration into this node's `SER_HOME`, once for each process."""
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
_received: set[tuple[object, ...]] = set()  # keys of the data that this process has received
_put_cache: dict[tuple[object, ...], Any] = {}  # data that this process has put into the object store, by Ray job


def _receive_once(key: tuple[object, ...], sent: SentPart | SentEncoder) -> None:
    if key not in _received:
        sent.receive()
        _received.add(key)


def make_shipment(names: Iterable[str], dtype: str, hashes: Sequence[str], tuned: Iterable[str] = ()) -> Shipment:
    """Return the data for nodes that do not share this process's `SER_HOME`.

    Args:
        names: feature families, of `FAMILIES`.
        dtype: dtype in which they are stored.
        hashes: audio digests of the clips.
        tuned: names of the encoders that trials run.
    """
    if not has_joined_cluster() or find_nodes_with_home() >= list_alive_nodes():
        return EMPTY_SHIPMENT
    names, tuned, needed = list(names), list(tuned), {bytes.fromhex(digest) for digest in hashes}
    parts = [part for name in names for part in _put_parts(family_folder(families_folder(), name, dtype), needed)]
    frozen_encoders = {name.rpartition(".")[0] for name in names if is_encoder_family_name(name)} - set(tuned)
    encoders = [_put_encoder(name, name in tuned) for name in (*frozen_encoders, *tuned)]
    return Shipment(tuple(parts), tuple(encoders))


def make_shipment_for(settings: Settings, hashes: Sequence[str]) -> Shipment:
    """Return the data for training one configuration on the clips with these digests."""
    if not has_joined_cluster():
        return EMPTY_SHIPMENT
    return make_shipment(
        feature_view(settings).required_families, settings.features.dtype, hashes, list_tuned_encoders([settings])
    )


def list_tuned_encoders(configurations: Iterable[Settings]) -> list[str]:
    """Return the names of the encoders that these configurations run on waveforms."""
    on_encoder = (each for each in configurations if each.model.name in PRETRAINED and takes_waveform(each))
    return list(dict.fromkeys(str(each.model.backbone) for each in on_encoder))


def _put_parts(folder: Path, needed: set[bytes]) -> list[SentPart]:
    """Return the shards of a family with the needed clips, without those whose clips are all in earlier ones."""
    chosen, left = [], set(needed)
    with hold_read_lock(folder):
        for part in list_intact_shards(folder):
            if left.intersection(part.hashes):
                left.difference_update(part.hashes)
                chosen.append(_put_once(part.path, partial(SentPart.put, part)))
    return chosen


def _put_encoder(name: str, with_weights: bool) -> SentEncoder:
    encoder = find_encoder(name)
    return _put_once((encoder.digest, with_weights), partial(SentEncoder.put, encoder, with_weights))


def _put_once(key: object, put: Callable[[], T]) -> T:
    in_this_job = (ray.get_runtime_context().get_job_id(), key)
    if in_this_job not in _put_cache:
        _put_cache[in_this_job] = put()
    sent: T = _put_cache[in_this_job]
    return sent
