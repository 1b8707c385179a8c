"""A fetched corpus is complete or absent, whenever a process is killed, and has a receipt with its addresses."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from dataclasses import replace

import pytest

from ser_platform.corpora.datasets import CORPORA
from ser_platform.corpora.download import corpus_fetch
from ser_platform.corpora.download.corpus_fetch import RECEIPT, fetch_corpus, find_fetched_corpus
from ser_platform.corpora.download.transfer import RetryPolicy, resolve_url
from ser_platform.corpora.facts import Archive, Facts
from ser_platform.errors import UserError, WorkFailed

HURRIED = RetryPolicy(max_tries=2, first_wait_s=0.01, max_wait_s=0.1, timeout_s=5)
CLIPS = {f"Actor_01/03-01-0{number}-01-01-01-01.wav": bytes([number]) * 5000 for number in range(1, 9)}


def packed(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return content.getvalue()


def facts_of(web, **changes) -> Facts:
    web.content = packed(CLIPS)
    checksum = "md5:" + hashlib.md5(web.content).hexdigest()
    archive = replace(Archive(web.at("/file"), len(web.content), checksum), **changes)
    return Facts("RAVDESS, some", ("en",), 8, 1, "CC0-1.0", "A. Author (2020)", "http://home.example", (archive,))


def clips(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.wav")}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "corpora"


def test_a_fetched_corpus_has_its_receipt_and_no_other_file_is_left(web, folder) -> None:
    facts = facts_of(web)
    fetched = fetch_corpus("ravdess", facts, folder, retry_policy=HURRIED)
    assert (fetched.path, fetched.n_files, fetched.unchecked) == (folder / "ravdess", 8, ())
    assert clips(fetched.path) == CLIPS
    assert [path.name for path in folder.iterdir()] == ["ravdess"]
    receipt = json.loads((fetched.path / RECEIPT).read_text())
    assert receipt["licence"] == "CC0-1.0"
    assert receipt["archives"] == [
        {
            "url": facts.archives[0].url,
            "n_bytes": len(web.content),
            "sha256": hashlib.sha256(web.content).hexdigest(),
            "checked_against": facts.archives[0].checksum,
        }
    ]


def test_several_archives_become_one_corpus(web, folder) -> None:
    facts = facts_of(web)
    with pytest.raises(WorkFailed, match="twice"):
        fetch_corpus("ravdess", replace(facts, archives=facts.archives * 2), folder, retry_policy=HURRIED)
    assert not (folder / "ravdess").exists()


def test_an_archive_without_a_published_checksum_is_reported_as_unchecked(web, folder) -> None:
    fetched = fetch_corpus("ravdess", facts_of(web, checksum=None), folder, retry_policy=HURRIED)
    (record,) = fetched.unchecked
    assert record.sha256 == hashlib.sha256(web.content).hexdigest()


def test_an_existing_corpus_is_not_downloaded_again(web, folder) -> None:
    facts = facts_of(web)
    fetch_corpus("ravdess", facts, folder, retry_policy=HURRIED)
    assert fetch_corpus("ravdess", facts, folder, retry_policy=HURRIED).n_files == 0
    assert web.requested == [None]


def test_again_replaces_a_fetched_corpus(web, folder) -> None:
    facts = facts_of(web)
    fetch_corpus("ravdess", facts, folder, retry_policy=HURRIED)
    (folder / "ravdess" / "damaged.wav").touch()
    assert fetch_corpus("ravdess", facts, folder, replace_existing=True, retry_policy=HURRIED).n_files == 8
    assert clips(folder / "ravdess") == CLIPS
    assert [path.name for path in folder.iterdir()] == ["ravdess"]


def test_again_refuses_to_replace_a_folder_that_was_not_fetched(web, folder) -> None:
    (folder / "ravdess").mkdir(parents=True)
    (folder / "ravdess" / "mine.wav").touch()
    with pytest.raises(UserError, match="was not fetched by ser"):
        fetch_corpus("ravdess", facts_of(web), folder, replace_existing=True, retry_policy=HURRIED)
    assert (folder / "ravdess" / "mine.wav").exists()


def test_the_error_for_a_corpus_without_archives_describes_how_to_get_it(folder) -> None:
    facts = Facts("SAVEE", ("en",), 480, 4, "own", "", "http://savee.example", how_to_get="register by mail")
    with pytest.raises(UserError, match="register by mail; see http://savee.example"):
        fetch_corpus("savee", facts, folder)
    assert not folder.exists()


def test_a_failed_download_leaves_no_files(web, folder) -> None:
    facts = facts_of(web)
    web.statuses = [(404, None)]
    with pytest.raises(WorkFailed, match="404"):
        fetch_corpus("ravdess", facts, folder, retry_policy=HURRIED)
    assert list(folder.iterdir()) == []


def test_an_archive_that_is_refused_is_downloaded_again_by_the_next_call(web, folder) -> None:
    facts = facts_of(web, checksum=None, n_bytes=None)
    good, web.content = web.content, packed({"../evil.wav": b"evil"})
    with pytest.raises(WorkFailed, match="climbs out"):
        fetch_corpus("ravdess", facts, folder, retry_policy=HURRIED)
    assert not (folder / "ravdess").exists() and not (folder / "evil.wav").exists()
    web.content = good
    assert fetch_corpus("ravdess", facts, folder, retry_policy=HURRIED).n_files == 8


def test_a_kill_between_download_and_unpacking_costs_no_second_download(web, folder, monkeypatch) -> None:
    facts = facts_of(web)

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(corpus_fetch, "unpack", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch_corpus("ravdess", facts, folder, retry_policy=HURRIED)
    assert not (folder / "ravdess").exists()
    assert fetch_corpus("ravdess", facts, folder, retry_policy=HURRIED).n_files == 8
    assert web.requested == [None]


def test_the_files_of_a_fetch_killed_at_its_end_are_removed(web, folder, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(corpus_fetch.shutil, "rmtree", lambda path: None)
        fetch_corpus("ravdess", facts_of(web), folder, retry_policy=HURRIED)
    assert (folder / ".fetch-ravdess").exists()
    assert find_fetched_corpus("ravdess", folder) == folder / "ravdess"
    assert [path.name for path in folder.iterdir()] == ["ravdess"]


def test_two_fetches_at_once_download_once(web, folder) -> None:
    facts = facts_of(web)
    web.seconds_per_chunk = 0.3
    fetched = []
    threads = [
        threading.Thread(target=lambda: fetched.append(fetch_corpus("ravdess", facts, folder, retry_policy=HURRIED)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.n_files for each in fetched) == [0, 0, 8]
    assert web.requested == [None]
    assert clips(folder / "ravdess") == CLIPS
    assert [path.name for path in folder.iterdir()] == ["ravdess"]


def test_the_part_of_a_killed_process_is_resumed(web, folder) -> None:
    facts = facts_of(web)
    web.content = packed({**CLIPS, "long.wav": os.urandom(1 << 20)})
    archive = Archive(web.at("/file"), len(web.content), "md5:" + hashlib.md5(web.content).hexdigest())
    facts = replace(facts, archives=(archive,))
    web.seconds_per_chunk = 0.1  # 64 KiB each: 17 chunks
    script = f"""
        from pathlib import Path
        from ser_platform.corpora.facts import Archive, Facts
        from ser_platform.corpora.download.corpus_fetch import fetch_corpus
        fetch_corpus("ravdess", {facts!r}, Path({str(folder)!r}))
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    part = folder / ".fetch-ravdess" / "archive-0.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size > 200_000):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    held = part.stat().st_size
    assert not (folder / "ravdess").exists()
    web.seconds_per_chunk = 0
    assert fetch_corpus("ravdess", facts, folder, retry_policy=HURRIED).n_files == 9
    assert web.requested == [None, f"bytes={held}-"]
    assert clips(folder / "ravdess").keys() == {*CLIPS, "long.wav"}


@pytest.mark.parametrize("name", CORPORA)
def test_every_corpus_names_official_archives_or_how_to_get_it(name) -> None:
    facts = CORPORA[name].FACTS
    assert facts.archives or facts.how_to_get
    for archive in facts.archives:
        assert resolve_url(archive.url) == archive.url
        assert archive.n_bytes is None or archive.n_bytes > 0
        if archive.checksum is not None:
            kind, _, digest = archive.checksum.partition(":")
            assert len(bytes.fromhex(digest)) == {"md5": 16, "sha256": 32}[kind]
