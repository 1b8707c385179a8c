"""Unpacking zip and tar.gz that a stranger wrote: nothing leaves the folder, nothing but plain files comes out.

Stricter than tarfile's filter `task`: any link, device, absolute path, `..` or drive letter ends it, whatever it would
have done, as does a name that occurs twice, encryption, or more bytes than the disk or reason allow. Files are written
by us, so they get no mode, owner or time from the archive.
"""

import gzip
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from ser_platform.errors import WorkFailed

MAX_UNPACK_RATIO = 50  # times the archive; speech shrinks 1.2- to 4-fold, deflate makes 1,000 of zeros
RATIO_EXEMPT_BYTES = 16 << 20  # bytes that no ratio is asked of: text packs well
MAX_ENTRIES = 500_000  # a file takes room on a disk even when it is empty
CHUNK_BYTES = 1 << 20  # bytes
ZIP, GZIP = b"PK", b"\x1f\x8b"
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,  # zipfile: a compression that it does not know
    ValueError,  # a header that says no number where there should be one
)


class BadArchive(WorkFailed):
    """An archive that is damaged or would do harm: of no use, however often it is unpacked."""


def unpack(archive: Path, folder: Path) -> int:
    """Unpack a zip or tar.gz, known by its content, into `folder`, and return how many files came out.

    After an error `folder` holds a part: unpack into a folder of its own, and rename that.

    Raises:
        BadArchive: the archive is damaged, neither zip nor tar.gz, or holds what it should not.
        WorkFailed: the disk is too small.
    """
    with archive.open("rb") as file:
        start = file.read(512)
    sink = _Sink(archive.name, folder, archive.stat().st_size)
    try:
        if start.startswith(ZIP):
            _unpack_zip(archive, sink)
        elif start.startswith(GZIP):
            _unpack_tar(archive, sink)
        else:
            page = b"<html" in start.lower() or b"<!doctype" in start.lower()
            raise BadArchive(
                f"{archive.name} is neither zip nor tar.gz{': the server sent a web page' if page else ''}"
            )
    except DAMAGED as error:
        raise BadArchive(f"{archive.name} is damaged: {error}") from error
    return sink.files


def validate_entry_path(name: str) -> PurePosixPath:
    """Return an entry's name as a path that stays where it is put; a backslash separates, as on Windows.

    Raises:
        ValueError: it is absolute, has a drive letter or a `..`, is empty or holds control characters.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute():
        raise ValueError("an absolute path")
    if re.match("[A-Za-z]:", str(path)):
        raise ValueError("a drive letter")
    if ".." in path.parts:
        raise ValueError("a path that climbs out with '..'")
    if re.search(r"[\x00-\x1f\x7f]", name):
        raise ValueError("control characters in a name")
    if not path.parts:
        raise ValueError("an empty name")
    return path


@dataclass
class _Sink:
    """Where entries end up; counts what came, and stops what is too much."""

    archive: str
    folder: Path
    archive_bytes: int
    files: int = 0
    entries: int = 0
    n_bytes: int = 0
    free_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.free_bytes = shutil.disk_usage(self.folder).free

    def refuse(self, what: str, name: str) -> BadArchive:
        return BadArchive(f"{self.archive} is refused: it holds {what} ({name!r})")

    def check_size(self, n_bytes: int) -> None:
        """Raise where `n_bytes` more would be too many."""
        n_bytes += self.n_bytes
        if n_bytes > max(RATIO_EXEMPT_BYTES, MAX_UNPACK_RATIO * self.archive_bytes):
            raise BadArchive(
                f"{self.archive} is refused: {self.archive_bytes:,} bytes would become {n_bytes:,} or more, "
                f"over {MAX_UNPACK_RATIO} times as many"
            )
        if n_bytes > self.free_bytes:
            raise WorkFailed(
                f"{self.folder}: {self.archive} unpacks to {n_bytes:,} bytes or more; {self.free_bytes:,} are free"
            )

    def resolve_entry(self, name: str) -> Path:
        """Return where an entry goes."""
        self.entries += 1
        if self.entries > MAX_ENTRIES:
            raise BadArchive(f"{self.archive} is refused: it has more than {MAX_ENTRIES:,} entries")
        try:
            return self.folder / validate_entry_path(name)
        except ValueError as error:
            raise self.refuse(str(error), name) from error

    def add_folder(self, name: str) -> None:
        if name and not PurePosixPath(name).parts:
            return  # `./`, the folder itself
        try:
            self.resolve_entry(name).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise self.refuse("a folder where a file is", name) from error

    def add_file(self, name: str, n_bytes: int, content: IO[bytes]) -> None:
        """Write one file; never over another one, not even one that differs in case where the disk ignores case."""
        self.check_size(n_bytes)
        path = self.resolve_entry(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("xb")
        except (FileExistsError, NotADirectoryError) as error:
            raise self.refuse("a name twice", name) from error
        with file:
            written = 0
            while chunk := content.read(CHUNK_BYTES):
                written += len(chunk)
                if written > n_bytes:
                    break
                file.write(chunk)
        if written != n_bytes:
            raise self.refuse("a file of another size than it says", name)
        self.files += 1
        self.n_bytes += n_bytes


def _unpack_zip(archive: Path, sink: _Sink) -> None:
    with zipfile.ZipFile(archive) as file:
        entries = file.infolist()
        sink.check_size(sum(entry.file_size for entry in entries))
        for entry in entries:
            kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where it was packed on Windows
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise sink.refuse("a link or device", entry.filename)
            if entry.flag_bits & 0x1:
                raise sink.refuse("an encrypted file", entry.filename)
            if entry.is_dir():
                sink.add_folder(entry.filename)
            else:
                with file.open(entry) as content:  # checks the CRC at the end
                    sink.add_file(entry.filename, entry.file_size, content)


def _unpack_tar(archive: Path, sink: _Sink) -> None:
    # One pass from front to back: seeking in gzip would unpack it all again.
    with gzip.open(archive) as packed:
        with tarfile.open(fileobj=packed, mode="r|") as file:
            for entry in _iterate_regular_files(file, sink):
                content = file.extractfile(entry)
                assert content is not None
                sink.add_file(entry.name, entry.size, content)
        while packed.read(CHUNK_BYTES):
            pass  # to the end, where gzip keeps the checksum


def _iterate_regular_files(file: tarfile.TarFile, sink: _Sink) -> Iterator[tarfile.TarInfo]:
    """Yield the regular files of a tar; folders are made, all else is refused."""
    for entry in file:
        if entry.isdir():
            sink.add_folder(entry.name)
        elif entry.isreg() and not entry.issparse():
            yield entry
        else:
            raise sink.refuse("a link, device or file with holes", entry.name)
