"""Unpacks zip and tar.gz archives from the web: regular files and folders only, all inside the target folder.

Stricter than tarfile's filter `data`: an archive is refused, not only the entry, where an entry is a link or a device,
has an absolute path, a `..` or a drive letter, repeats a name, or is encrypted, and where the archive unpacks to more
bytes than fit on the disk or than are plausible. Files get no mode, owner or time from the archive.
"""

import gzip
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ser_platform.errors import WorkFailed

MAX_UNPACK_RATIO = 50  # times the archive; speech shrinks 1.2- to 4-fold, deflate makes 1,000 of zeros
RATIO_EXEMPT_BYTES = 16 << 20  # bytes that may be unpacked at any ratio: text packs well
MAX_ENTRIES = 500_000  # an empty file takes room on a disk too
ZIP, GZIP = b"PK", b"\x1f\x8b"
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,  # zipfile: an unknown compression
    ValueError,  # a header field that is no number
)


class BadArchive(WorkFailed):
    """An archive that is damaged or refused: unpacking it again does not help."""


def unpack(archive: Path, folder: Path) -> int:
    """Unpack a zip or tar.gz, recognised by its content, into `folder`, and return the number of files written.

    After an error `folder` may contain some of the files: unpack into a folder of its own, and rename that.

    Raises:
        BadArchive: the archive is damaged, neither zip nor tar.gz, or has an entry that is refused.
        WorkFailed: the disk is too small.
    """
    with archive.open("rb") as file:
        start = file.read(512)
    guard = _Guard(archive, folder)
    try:
        if start.startswith(ZIP):
            _unpack_zip(archive, guard)
        elif start.startswith(GZIP):
            _unpack_tar(archive, guard)
        else:
            page = b"<html" in start.lower() or b"<!doctype" in start.lower()
            raise BadArchive(
                f"{archive.name} is neither zip nor tar.gz{': the server sent a web page' if page else ''}"
            )
    except DAMAGED as error:
        raise BadArchive(f"{archive.name} is damaged: {error}") from error
    return guard.n_files


def validate_entry_path(name: str) -> PurePosixPath:
    """Return an entry's name as a relative path inside the target folder; a backslash separates, as on Windows.

    Raises:
        ValueError: it is absolute, has a drive letter or a `..`, is empty or has control characters.
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


class _Guard:
    """Checks the entries of an archive before they are written to `folder`."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.name, self.folder = archive.name, folder
        self.archive_bytes, self.free_bytes = archive.stat().st_size, shutil.disk_usage(folder).free
        self.n_entries, self.n_files, self.n_bytes = 0, 0, 0

    def refuse(self, what: str, name: str) -> BadArchive:
        return BadArchive(f"{self.name} is refused: it has {what} ({name!r})")

    def check_size(self, n_bytes: int) -> None:
        """Raise where `n_bytes` unpacked bytes are too many."""
        if n_bytes > max(RATIO_EXEMPT_BYTES, MAX_UNPACK_RATIO * self.archive_bytes):
            raise BadArchive(
                f"{self.name} is refused: {self.archive_bytes:,} bytes would become {n_bytes:,} or more, "
                f"over {MAX_UNPACK_RATIO} times as many"
            )
        if n_bytes > self.free_bytes:
            raise WorkFailed(
                f"{self.folder}: {self.name} unpacks to {n_bytes:,} bytes or more; {self.free_bytes:,} are free"
            )

    def add_folder(self, name: str) -> None:
        """Make the folder of an entry."""
        if name and not PurePosixPath(name).parts:
            return  # `./`, the target folder
        self._make_folder(self.folder / self._validate(name), name)

    def add_file(self, name: str, n_bytes: int) -> str:
        """Count a file of `n_bytes`, make its folder, and return the relative path to extract it to."""
        self.n_files += 1
        self.n_bytes += n_bytes
        self.check_size(self.n_bytes)
        path = self._validate(name)
        self._make_folder((self.folder / path).parent, name)
        if (self.folder / path).exists():  # also where names differ in case and the disk ignores it
            raise self.refuse("a name twice", name)
        return str(path)

    def _validate(self, name: str) -> PurePosixPath:
        self.n_entries += 1
        if self.n_entries > MAX_ENTRIES:
            raise BadArchive(f"{self.name} is refused: it has more than {MAX_ENTRIES:,} entries")
        try:
            return validate_entry_path(name)
        except ValueError as error:
            raise self.refuse(str(error), name) from error

    def _make_folder(self, path: Path, name: str) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise self.refuse("a folder and a file of one name", name) from error


def _unpack_zip(archive: Path, guard: _Guard) -> None:
    with zipfile.ZipFile(archive) as file:
        guard.check_size(sum(entry.file_size for entry in file.infolist()))
        for entry in file.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where it was packed on Windows
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise guard.refuse("a link or device", entry.filename)
            if entry.flag_bits & 0x1:
                raise guard.refuse("an encrypted file", entry.filename)
            if entry.is_dir():
                guard.add_folder(entry.filename)
            else:
                entry.filename = guard.add_file(entry.filename, entry.file_size)
                file.extract(entry, guard.folder)  # checks size and CRC


def _unpack_tar(archive: Path, guard: _Guard) -> None:
    # One pass from front to back: seeking in gzip would unpack it all again.
    with gzip.open(archive) as packed:
        with tarfile.open(fileobj=packed, mode="r|") as file:
            for entry in file:
                if entry.isdir():
                    guard.add_folder(entry.name)
                elif entry.isreg() and not entry.issparse():
                    entry.name = guard.add_file(entry.name, entry.size)
                    file.extract(entry, guard.folder, set_attrs=False, filter="data")
                else:
                    raise guard.refuse("a link, device or file with holes", entry.name)
        while packed.read(1 << 20):
            pass  # to the end, where gzip has the checksum
