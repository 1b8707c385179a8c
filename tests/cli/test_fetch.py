"""`ser corpora fetch`: it requires the licence to be accepted, and each refusal is one line with the next step."""

import functools
import hashlib
import http.server
import shutil
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from ser_platform import cli
from ser_platform.cli import fetch as verb
from ser_platform.cli.output import make_console
from ser_platform.corpora.datasets import ravdess, savee
from ser_platform.corpora.facts import Archive


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def official(few_tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A small RAVDESS on a local server, whose address is in the corpus facts."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("SER_CORPORA", raising=False)
    place = tmp_path / "web"
    place.mkdir()
    with zipfile.ZipFile(place / "speech.zip", "w") as file:
        for path in few_tones.rglob("*.wav"):
            file.write(path, path.relative_to(few_tones))
    content = (place / "speech.zip").read_bytes()
    handler = functools.partial(_Quiet, directory=str(place))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/speech.zip"
        archive = Archive(url, len(content), "md5:" + hashlib.md5(content).hexdigest())
        monkeypatch.setattr(ravdess, "FACTS", replace(ravdess.FACTS, archives=(archive,)))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield place
        server.shutdown()
        thread.join()


@pytest.fixture
def ser(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `ser`; return exit code, standard output and standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ser", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def answer(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """Simulate a terminal at which the user types `line`."""
    monkeypatch.setattr(verb, "_is_interactive", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda question, default: line == "y")


def test_a_corpus_is_fetched_and_the_next_commands_are_named(official, ser, tmp_path) -> None:
    code, out, _ = ser("corpora", "fetch", "ravdess", "--accept-licence")
    assert code == 0
    for printed in ("RAVDESS, speech", "CC-BY-NC-SA-4.0", "Livingstone", "https://zenodo.org/records/1188976", "md5"):
        assert printed in out
    assert str(tmp_path / "ser-home" / "corpora" / "ravdess") in out
    assert "9 files" in out
    assert "ser corpora doctor ravdess" in out
    assert "ser tune --corpus ravdess" in out


def test_an_existing_corpus_is_not_fetched_again(official, ser) -> None:
    ser("corpora", "fetch", "ravdess", "--accept-licence")
    (official / "speech.zip").unlink()
    code, out, _ = ser("corpora", "fetch", "ravdess")
    assert code == 0
    assert "exists already" in out and "--again" in out


def test_a_corpus_under_ser_corpora_is_found_by_its_longer_name(official, ser, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SER_CORPORA", str(tmp_path / "speech"))
    (tmp_path / "speech" / "ravdess-speech").mkdir(parents=True)
    code, out, _ = ser("corpora", "fetch", "ravdess")
    assert code == 0
    assert "ravdess-speech" in out


def test_again_downloads_an_existing_corpus(official, ser, tmp_path) -> None:
    ser("corpora", "fetch", "ravdess", "--accept-licence")
    shutil.rmtree(tmp_path / "ser-home" / "corpora" / "ravdess" / "Actor_01")
    code, out, _ = ser("corpora", "fetch", "ravdess", "--again", "--accept-licence")
    assert code == 0
    assert "9 files" in out


def test_another_folder_is_named_in_the_next_commands(official, ser, tmp_path) -> None:
    code, out, _ = ser("corpora", "fetch", "ravdess", "--accept-licence", "--to", "elsewhere")
    assert code == 0
    assert f"ser tune --corpus {tmp_path / 'elsewhere' / 'ravdess'}" in out


def test_an_unchecked_archive_is_reported_with_its_sha256(official, ser, monkeypatch, tmp_path) -> None:
    archive = replace(ravdess.FACTS.archives[0], checksum=None)
    monkeypatch.setattr(ravdess, "FACTS", replace(ravdess.FACTS, archives=(archive,)))
    sha256 = hashlib.sha256((official / "speech.zip").read_bytes()).hexdigest()
    code, out, _ = ser("corpora", "fetch", "ravdess", "--accept-licence")
    assert code == 0
    assert "not checked, as its publisher gives no checksum, and the connection was not encrypted" in out
    assert sha256 in out
    assert sha256 in (tmp_path / "ser-home" / "corpora" / "ravdess" / ".fetched.json").read_text()


def test_without_a_terminal_the_licence_needs_an_option(official, ser, tmp_path) -> None:
    code, _, err = ser("corpora", "fetch", "ravdess")
    assert code == 2
    assert err.count("\n") == 1 and "--accept-licence" in err
    assert not (tmp_path / "ser-home" / "corpora").exists()


def test_an_accepted_licence_starts_the_download(official, ser, monkeypatch) -> None:
    answer(monkeypatch, "y")
    code, out, _ = ser("corpora", "fetch", "ravdess")
    assert code == 0
    assert "9 files" in out


def test_a_declined_licence_downloads_nothing(official, ser, monkeypatch, tmp_path) -> None:
    answer(monkeypatch, "")
    code, _, err = ser("corpora", "fetch", "ravdess")
    assert code == 2
    assert "not accepted" in err
    assert not (tmp_path / "ser-home" / "corpora").exists()


def test_an_unknown_corpus_is_refused_with_the_known_ones(ser) -> None:
    code, _, err = ser("corpora", "fetch", "klingon")
    assert code == 2
    assert "'klingon'" in err and "emodb" in err


def test_the_line_for_a_corpus_with_registration_describes_how_to_get_it(ser, monkeypatch) -> None:
    monkeypatch.delenv("SER_CORPORA", raising=False)
    code, out, err = ser("corpora", "fetch", "savee", "--accept-licence")
    assert code == 2
    assert out == "" and err.count("\n") == 1
    assert savee.FACTS.how_to_get in err


def test_a_failing_server_gives_exit_code_1(official, ser) -> None:
    (official / "speech.zip").unlink()
    code, _, err = ser("corpora", "fetch", "ravdess", "--accept-licence")
    assert code == 1
    assert "404" in err and err.count("\n") == 1


def test_the_message_after_ctrl_c_names_the_next_step(official, ser, monkeypatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ser_platform.corpora.download.corpus_fetch.fetch_corpus", interrupt)
    code, out, _ = ser("corpora", "fetch", "ravdess", "--accept-licence")
    assert code == 1
    assert "The same command continues" in out


def test_a_log_contains_lines_with_bytes_rate_and_time_left(monkeypatch, capsys) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    lines = verb.ProgressLog(make_console(), "ravdess")
    for second in range(0, 41):
        now[0] = 100.0 + second
        lines.report_bytes(10_000_000 + second * 1_000_000, 50_000_000)  # 10 MB are of an earlier download
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "ravdess: 25.0 MB of 50.0 MB, 1.0 MB/s, 25 s left",
        "ravdess: 40.0 MB of 50.0 MB, 1.0 MB/s, 10 s left",
        "ravdess: 50.0 MB of 50.0 MB, 1.0 MB/s",
    ]


def test_a_terminal_shows_a_progress_bar(capsys) -> None:
    out = verb.Console(force_terminal=True, width=100)
    with verb.ProgressBar(out, "ravdess") as bar:
        bar.report_bytes(1_000_000, 4_000_000)
        bar.report("the server answers 503 [Service Unavailable]; try 2 of 5 in 1 s")
        bar.report_bytes(4_000_000, 4_000_000)
    printed = capsys.readouterr().out
    assert "4.0/4.0 MB" in printed
    assert "503 [Service Unavailable]" in printed
