"""An untrusted archive is unpacked as regular files inside the folder, or refused."""

import io
import shutil
import stat
import tarfile
import zipfile
from collections import namedtuple

import pytest

from ser_platform.corpora.download import archives
from ser_platform.corpora.download.archives import BadArchive, unpack, validate_entry_path
from ser_platform.errors import WorkFailed

ESCAPES = ("/etc/passwd", "../outside.wav", "a/../../outside.wav", "C:/outside.wav", "..\\outside.wav", "a\nb.wav")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in" / "corpus").mkdir(parents=True)
    return tmp_path / "in" / "corpus"


@pytest.fixture
def zipped(tmp_path):
    def pack(*entries, compression=zipfile.ZIP_DEFLATED):
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w", compression) as file:
            for entry, content in entries:
                file.writestr(entry, content)
        return path

    return pack


@pytest.fixture
def tarred(tmp_path):
    def pack(*entries):
        path = tmp_path / "a.tar.gz"
        with tarfile.open(path, "w:gz") as file:
            for entry, content in entries:
                info = entry if isinstance(entry, tarfile.TarInfo) else tarfile.TarInfo(entry)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
        return path

    return pack


def of_kind(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, mode << 16
    return entry


def found(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_zip_is_unpacked_unchanged(zipped, folder) -> None:
    archive = zipped(("Actor_01/", b""), ("Actor_01/a.wav", b"one"), ("Actor_02/b.wav", b"two"), ("empty", b""))
    assert unpack(archive, folder) == 3
    assert found(folder) == {"Actor_01/a.wav": b"one", "Actor_02/b.wav": b"two", "empty": b""}


def test_a_tar_is_unpacked_unchanged(tarred, folder) -> None:
    top = tarfile.TarInfo("./")
    top.type = tarfile.DIRTYPE
    assert unpack(tarred((top, b""), ("./wav/a.wav", b"one"), ("wav/b.wav", b"two")), folder) == 2
    assert found(folder) == {"wav/a.wav": b"one", "wav/b.wav": b"two"}


def test_the_kind_of_archive_is_known_by_content_not_by_name(zipped, folder, tmp_path) -> None:
    archive = zipped(("a.wav", b"one")).rename(tmp_path / "archive-0")
    assert unpack(archive, folder) == 1


@pytest.mark.parametrize("name", ESCAPES)
def test_a_zip_entry_that_would_leave_the_folder_is_refused(zipped, folder, name) -> None:
    with pytest.raises(BadArchive, match="refused"):
        unpack(zipped((name, b"evil")), folder)
    assert [path.name for path in folder.parent.iterdir()] == ["corpus"]
    assert found(folder) == {}


@pytest.mark.parametrize("name", ESCAPES)
def test_a_tar_entry_that_would_leave_the_folder_is_refused(tarred, folder, name) -> None:
    with pytest.raises(BadArchive, match="refused"):
        unpack(tarred((name, b"evil")), folder)
    assert [path.name for path in folder.parent.iterdir()] == ["corpus"]
    assert found(folder) == {}


@pytest.mark.parametrize("name", ["../", "/tmp/", "a/../../b/"])
def test_a_folder_outside_is_refused(zipped, folder, name) -> None:
    with pytest.raises(BadArchive, match="refused"):
        unpack(zipped((name, b"")), folder)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tarred, folder, kind) -> None:
    entry = tarfile.TarInfo("a.wav")
    entry.type, entry.linkname = kind, "b.wav"
    with pytest.raises(BadArchive, match="link, device"):
        unpack(tarred((entry, b"")), folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_a_zip_are_refused(zipped, folder, kind) -> None:
    with pytest.raises(BadArchive, match="link or device"):
        unpack(zipped((of_kind("a.wav", kind | 0o777), b"/etc/passwd")), folder)
    assert list(folder.iterdir()) == []


def test_no_file_is_executable_with_any_mode_in_the_archive(zipped, tarred, folder, tmp_path) -> None:
    unpack(zipped((of_kind("a.sh", stat.S_IFREG | stat.S_ISUID | 0o777), b"#!")), folder)
    entry = tarfile.TarInfo("b.sh")
    entry.mode = stat.S_ISUID | stat.S_ISGID | 0o777
    unpack(tarred((entry, b"#!")), folder)
    for name in ("a.sh", "b.sh"):
        assert not (folder / name).stat().st_mode & (0o111 | stat.S_ISUID | stat.S_ISGID)


def test_a_name_twice_is_refused(zipped, tarred, folder, tmp_path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        archive = zipped(("a.wav", b"one"), ("a.wav", b"two"))
    with pytest.raises(BadArchive, match="twice"):
        unpack(archive, folder)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(BadArchive, match="twice"):
        unpack(tarred(("a.wav", b"one"), ("./a.wav", b"two")), other)


def test_a_file_where_a_folder_should_be_is_refused(zipped, folder) -> None:
    with pytest.raises(BadArchive, match="refused"):
        unpack(zipped(("a", b"one"), ("a/b.wav", b"two")), folder)


def test_an_encrypted_zip_is_refused(zipped, folder) -> None:
    archive = zipped(("a.wav", b"one"))
    packed = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(signature) + offset] |= 1  # the flag in both headers
    archive.write_bytes(packed)
    with pytest.raises(BadArchive, match="encrypted"):
        unpack(archive, folder)


def test_a_bomb_is_refused_before_it_is_written(zipped, tarred, folder) -> None:
    zeros = bytes(archives.RATIO_EXEMPT_BYTES + 1)
    for archive in (zipped(("a.wav", zeros)), tarred(("a.wav", zeros))):
        with pytest.raises(BadArchive, match="over 50 times"):
            unpack(archive, folder)
        assert list(folder.iterdir()) == []


def test_a_zip_with_a_wrong_size_is_refused(zipped, folder) -> None:
    archive = zipped(("a.wav", bytes(1000)))
    packed = archive.read_bytes()
    archive.write_bytes(packed.replace((1000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(BadArchive):
        unpack(archive, folder)


def test_more_entries_than_any_corpus_has_are_refused(zipped, folder, monkeypatch) -> None:
    monkeypatch.setattr(archives, "MAX_ENTRIES", 2)
    with pytest.raises(BadArchive, match="more than 2 entries"):
        unpack(zipped(*((f"{number}", b"") for number in range(3))), folder)


def test_a_full_disk_is_not_reported_as_a_bad_archive(zipped, tarred, folder, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("usage", "total used free")(0, 0, 99))
    for archive in (zipped(("a.wav", bytes(100))), tarred(("a.wav", bytes(100)))):
        with pytest.raises(WorkFailed, match="99 are free") as refusal:
            unpack(archive, folder)
        assert not isinstance(refusal.value, BadArchive)


def test_damage_is_detected(zipped, tarred, folder, tmp_path) -> None:
    content = bytes(range(256)) * 400
    for number, archive in enumerate((zipped(("a.wav", content), compression=0), tarred(("a.wav", content)))):
        packed = bytearray(archive.read_bytes())
        packed[len(packed) // 2] ^= 0xFF
        archive.write_bytes(packed)
        into = tmp_path / f"damaged-{number}"
        into.mkdir()
        with pytest.raises(BadArchive, match="damaged"):
            unpack(archive, into)
        archive.write_bytes(packed[: len(packed) // 3])
        with pytest.raises(BadArchive, match="damaged"):
            unpack(archive, into)


def test_a_web_page_in_place_of_an_archive_is_named(tmp_path, folder) -> None:
    page = tmp_path / "a.zip"
    page.write_text("<!DOCTYPE html><html>Please log in")
    with pytest.raises(BadArchive, match="neither zip nor tar.gz: the server sent a web page"):
        unpack(page, folder)


def test_a_backslash_separates_folders_and_dots_inside_a_name_are_valid() -> None:
    assert validate_entry_path("a\\b..c/..d.wav").parts == ("a", "b..c", "..d.wav")
