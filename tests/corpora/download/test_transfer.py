"""A download is resumed, never mixes two versions, and is complete only with the published size and checksum."""

import email.utils
import hashlib
import shutil
import time
from collections import namedtuple
from dataclasses import replace

import pytest

from ser_platform.corpora.download import transfer
from ser_platform.corpora.download.transfer import RetryPolicy, download, resolve_url
from ser_platform.corpora.facts import Archive
from ser_platform.errors import WorkFailed

HURRIED = RetryPolicy(max_tries=3, first_wait_s=0.01, max_wait_s=0.2, timeout_s=5)
HALF = 3 << 19  # bytes of the 3 MiB that the server sends


class Recorder:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.progress: list[tuple[int, int | None]] = []

    def report(self, text: str) -> None:
        self.lines.append(text)

    def report_bytes(self, done: int, total: int | None) -> None:
        self.progress.append((done, total))


@pytest.fixture
def archive(web) -> Archive:
    return Archive(web.at("/file"), len(web.content), "md5:" + hashlib.md5(web.content).hexdigest())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


def left(path) -> set[str]:
    return {each.name for each in path.parent.iterdir() if each.name.startswith("file")}


def test_a_complete_file_has_its_digest(web, archive, path) -> None:
    recorder = Recorder()
    record = download(archive, path, recorder, HURRIED)
    assert path.read_bytes() == web.content
    assert record.sha256 == hashlib.sha256(web.content).hexdigest()
    assert left(path) == {"file", "file.json"}
    assert recorder.progress[-1] == (len(web.content), len(web.content))


def test_a_finished_file_is_not_requested_again(web, archive, path) -> None:
    first = download(archive, path, None, HURRIED)
    assert download(archive, path, None, HURRIED) == first
    assert web.requested == [None]


def test_a_broken_connection_is_resumed_and_only_the_rest_is_sent(web, archive, path) -> None:
    web.drops = [HALF, None]
    download(archive, path, None, HURRIED)
    assert path.read_bytes() == web.content
    assert web.requested == [None, f"bytes={HALF}-"]
    assert web.sent == [HALF, len(web.content) - HALF]


def test_a_later_call_resumes_the_part_of_an_earlier_one(web, archive, path) -> None:
    web.drops = [HALF, 0, 0, None]
    with pytest.raises(WorkFailed, match=r"gave up after 3 tries; 1\.6 MB are kept"):
        download(archive, path, None, HURRIED)
    download(archive, path, None, HURRIED)
    assert path.read_bytes() == web.content
    assert web.sent[-1] == len(web.content) - HALF


def test_a_server_that_cannot_resume_starts_over(web, archive, path) -> None:
    web.ranges, web.drops = False, [HALF, None]
    download(archive, path, None, HURRIED)
    assert path.read_bytes() == web.content
    assert web.sent == [HALF, len(web.content)]


def test_a_server_that_sends_no_length_is_read_to_its_end(web, archive, path) -> None:
    web.sends_length, web.drops = False, [HALF, None]
    download(replace(archive, n_bytes=None), path, None, HURRIED)
    assert path.read_bytes() == web.content


def test_a_changed_file_is_not_appended_to_the_old_part(web, archive, path) -> None:
    old = web.content
    web.drops = [HALF, 0, 0]
    unchecked = replace(archive, n_bytes=None, checksum=None)
    with pytest.raises(WorkFailed):
        download(unchecked, path, None, HURRIED)
    web.content, web.etag = bytes(reversed(old)), '"two"'
    download(unchecked, path, None, HURRIED)
    assert path.read_bytes() == web.content


def test_a_server_that_ignores_if_range_does_not_mix_versions(web, archive, path, monkeypatch) -> None:
    monkeypatch.setattr(transfer.DownloadRecord, "validator", None)  # so that no If-Range is sent
    web.drops = [HALF, 0, 0]
    with pytest.raises(WorkFailed):
        download(archive, path, None, HURRIED)
    web.content, web.etag = bytes(reversed(web.content)), '"two"'
    changed = replace(archive, checksum="md5:" + hashlib.md5(web.content).hexdigest())
    path.with_name("file.json").write_text(
        path.with_name("file.json").read_text().replace(archive.checksum, changed.checksum)
    )
    download(changed, path, None, HURRIED)
    assert path.read_bytes() == web.content


def test_a_part_longer_than_the_file_starts_over(web, archive, path) -> None:
    web.drops = [HALF, 0, 0]
    with pytest.raises(WorkFailed):
        download(archive, path, None, HURRIED)
    with path.with_name("file.part").open("ab") as part:
        part.write(bytes(2 * len(web.content)))
    download(archive, path, None, HURRIED)
    assert path.read_bytes() == web.content


def test_without_etag_and_checksum_nothing_is_resumed(web, archive, path) -> None:
    web.etag, web.drops = None, [HALF, None]
    download(replace(archive, checksum=None), path, None, HURRIED)
    assert web.requested == [None, None]
    assert path.read_bytes() == web.content


def test_a_part_of_another_address_is_not_used(web, archive, path) -> None:
    web.drops = [HALF, 0, 0]
    with pytest.raises(WorkFailed):
        download(archive, path, None, HURRIED)
    download(replace(archive, url=web.at("/file?version=2")), path, None, HURRIED)
    assert web.requested[-1] is None
    assert path.read_bytes() == web.content


def test_a_whole_part_without_its_name_is_not_sent_again(web, archive, path) -> None:
    download(archive, path, None, HURRIED)
    path.rename(path.with_name("file.part"))  # as if killed between the last byte and the rename
    download(archive, path, None, HURRIED)
    assert path.read_bytes() == web.content
    assert web.requested == [None]


def test_the_error_for_a_wrong_checksum_has_both_and_no_file_is_left(web, archive, path) -> None:
    wrong = "md5:" + "0" * 32
    found = hashlib.md5(web.content).hexdigest()
    with pytest.raises(WorkFailed, match=f"md5 is {found}, expected {'0' * 32}"):
        download(replace(archive, checksum=wrong), path, None, HURRIED)
    assert left(path) == set()


def test_content_corrupted_in_transit_is_detected(web, archive, path) -> None:
    web.content = b"?" + web.content[1:]
    with pytest.raises(WorkFailed, match="md5 is"):
        download(archive, path, None, HURRIED)


def test_a_wrong_size_is_refused_before_the_first_byte_with_both_named(web, archive, path) -> None:
    with pytest.raises(WorkFailed, match="3,145,728 bytes; the published size is 7"):
        download(replace(archive, n_bytes=7), path, None, HURRIED)
    assert left(path) == set()


def test_more_bytes_than_published_are_not_taken_from_a_server_that_sends_no_length(web, archive, path) -> None:
    web.sends_length = False
    with pytest.raises(WorkFailed, match="the published size is 7"):
        download(replace(archive, n_bytes=7), path, None, HURRIED)
    assert left(path) == set()


def test_a_disk_without_room_for_archive_and_content_is_refused_before_the_first_byte(
    web, archive, path, monkeypatch
) -> None:
    usage = namedtuple("usage", "total used free")(0, 0, 4 * len(web.content) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(WorkFailed, match=r"12\.6 MB free; 12\.6 MB are needed"):
        download(archive, path, None, HURRIED)
    assert left(path) == set()


def test_a_missing_file_is_reported_at_once(web, archive, path) -> None:
    web.statuses = [(404, None)]
    with pytest.raises(WorkFailed, match="404"):
        download(archive, path, None, HURRIED)
    assert len(web.requested) == 1


def test_a_request_is_repeated_after_a_server_error(web, archive, path) -> None:
    recorder = Recorder()
    web.statuses = [(500, None), (503, "0")]
    download(archive, path, recorder, HURRIED)
    assert path.read_bytes() == web.content
    assert "500" in recorder.lines[0] and "try 2 of 3" in recorder.lines[0]


def test_retry_after_is_honoured_in_seconds_and_as_a_date(web, archive, path, monkeypatch) -> None:
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    web.statuses = [(503, "7"), (429, email.utils.formatdate(time.time() + 60, usegmt=True))]
    download(archive, path, None, replace(HURRIED, max_wait_s=100))
    assert waited[0] == 7
    assert 50 < waited[1] <= 60


def test_a_server_that_requests_too_long_a_wait_is_given_up(web, archive, path) -> None:
    web.statuses = [(503, "3600")]
    with pytest.raises(WorkFailed, match="requests another try in 3600 s"):
        download(archive, path, None, HURRIED)


def test_progress_resets_the_count_of_tries(web, archive, path) -> None:
    step = 600 << 10  # a drop at every 600 KiB: six answers, more than three tries
    web.drops = [step] * 5 + [None]
    download(archive, path, None, HURRIED)
    assert path.read_bytes() == web.content
    assert len(web.requested) == 6


def test_redirects_are_followed(web, archive, path) -> None:
    web.redirects = {"/old": web.at("/between"), "/between": "/file"}
    download(replace(archive, url=web.at("/old")), path, None, HURRIED)
    assert path.read_bytes() == web.content


def test_a_loop_of_redirects_is_refused(web, archive, path) -> None:
    web.redirects = {"/old": "/old"}
    with pytest.raises(WorkFailed, match="redirects more than"):
        download(replace(archive, url=web.at("/old")), path, None, HURRIED)


def test_a_redirect_to_a_file_of_this_machine_is_refused(web, archive, path) -> None:
    web.redirects = {"/old": "file:///etc/passwd"}
    with pytest.raises(WorkFailed, match="only http and https"):
        download(replace(archive, url=web.at("/old")), path, None, HURRIED)


def test_only_http_addresses_are_requested_and_https_is_not_left() -> None:
    assert resolve_url("/b", redirected_from="https://a.example/a") == "https://a.example/b"
    assert resolve_url("https://b.example/", redirected_from="http://a.example/") == "https://b.example/"
    for address in ("file:///etc/passwd", "ftp://a.example/x", "relative", "http://"):
        with pytest.raises(WorkFailed, match="only http and https"):
            resolve_url(address)
    with pytest.raises(WorkFailed, match="no address"):
        resolve_url("http://[broken/")
    with pytest.raises(WorkFailed, match="leaves https for http"):
        resolve_url("http://a.example/b", redirected_from="https://a.example/a")


def test_the_error_names_an_unreachable_host(archive, path) -> None:
    unreachable = replace(archive, url="http://127.0.0.1:9/file")
    with pytest.raises(WorkFailed, match=r"127\.0\.0\.1 cannot be reached; gave up after 3 tries"):
        download(unreachable, path, None, HURRIED)
