"""The report is valid JSON; the page escapes all file names."""

import json
import re
import shutil

import numpy as np
import pytest

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.corpora.doctor.diagnosis import Finding, diagnose
from ser_platform.corpora.doctor.examination import examine
from ser_platform.corpora.doctor.examination_page import render_page, write_page
from ser_platform.corpora.doctor.examination_report import build_report, duration_histogram, escape_unprintable
from ser_platform.corpora.doctor.svg_figures import draw_figures

EVIL = "<script>alert(1)</script>.wav"


@pytest.fixture
def examined():
    def from_folder(root):
        exam = examine(CorpusRequest(str(root)), jobs=1)
        return exam, diagnose(exam)

    return from_folder


def test_the_report_is_json_in_fractions_and_seconds(healthy, examined):
    shutil.copy(healthy / "03a01Wa.wav", healthy / "08a04Wa.wav")
    report = json.loads(json.dumps(build_report(*examined(healthy))))
    assert report["spoils"] is True
    assert report["clips"] == len(report["measures"]) == 25
    assert report["clips_by_speaker_and_emotion"]["emodb-08"] == {"neutral": 1, "happiness": 1, "anger": 3}
    assert report["durations"]["median"] == pytest.approx(1.2)
    assert sum(report["durations"]["histogram"]["counts"]) == 25
    assert report["formats"]["sample_rates_hz"] == {"16000": 25}
    assert report["recordings"] == [{"clips": ["03a01Wa", "08a04Wa"], "identical": True, "near": []}]
    assert 0 <= report["silence_share"]["median"] <= 1
    assert set(report["split"]["speakers"]) == {"train", "dev", "test"}


def test_a_report_of_no_usable_clip_is_json_too(healthy, examined):
    for path in healthy.glob("*.wav"):
        path.write_bytes(b"RIFF")
    report = json.loads(json.dumps(build_report(*examined(healthy))))
    assert (report["clips"], report["split"], len(report["unreadable"])) == (0, None, 24)
    assert report["snr_db"]["median"] is None


@pytest.mark.parametrize("seconds", [[1.0], [0.3, 0.4, 119.0], list(np.linspace(1.2, 9.0, 500)), [2.5, 5.0, 7.5]])
def test_a_histogram_of_durations_counts_every_clip_in_few_round_bins(seconds):
    found = duration_histogram(seconds)
    assert sum(found.counts) == len(seconds)
    assert len(found.counts) <= 14
    assert found.edges[0] <= min(seconds) <= max(seconds) <= found.edges[-1]


def test_the_page_names_what_was_found(healthy, examined):
    shutil.copy(healthy / "03a01Wa.wav", healthy / "08a04Wa.wav")
    made = render_page(*examined(healthy))
    assert "03a01Wa (emodb-03, anger) = 08a04Wa (emodb-08, anger)" in made
    assert "would spoil an experiment" in made
    assert made.count("data:image/svg+xml;base64,") == 4


def test_markup_in_file_names_is_escaped_in_the_page(healthy, examined, tmp_path):
    made = render_page(*examined(healthy))
    exam, findings = examined(healthy)
    evil = Finding(
        "spoils", "misfits", f"1 file {EVIL}", clips=(EVIL,), details=(f"{EVIL}: '\"><img src=x onerror=y>",)
    )
    made = render_page(exam, [*findings, evil])
    assert "<script" not in made
    assert "<img src=x" not in made
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.wav" in made


def test_the_page_requests_no_external_file(healthy, examined, tmp_path):
    write_page(*examined(healthy), tmp_path / "page.html")
    made = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Content-Security-Policy" in made
    assert re.findall(r"(?:src|href)=\"(?!data:)", made) == []
    assert "url(" not in made


def test_a_page_of_no_usable_clip_can_be_written(healthy, examined):
    for path in healthy.glob("*.wav"):
        path.write_bytes(b"RIFF")
    assert "24 files of 24 cannot be used" in render_page(*examined(healthy))
    assert draw_figures([]) == {}


def test_names_cannot_steer_a_terminal():
    assert escape_unprintable("a\x1b[2J\nb\udcff") == r"a\x1b[2J\nb\udcff"
    assert escape_unprintable("Grüße 你好") == "Grüße 你好"
