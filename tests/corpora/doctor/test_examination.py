"""Every file is collected or rejected with its reason, and every clip is measured, in one process or several."""

import shutil

import pytest

from ser_platform.corpora.audio.reader import read_audio
from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.corpora.doctor import examination
from ser_platform.corpora.doctor.examination import collect_files, examine
from ser_platform.errors import CorpusError, UnknownChoice


def test_the_manifest_has_durations_and_the_digests_of_the_audio(healthy):
    exam = examine(CorpusRequest(str(healthy)), jobs=1)
    assert len(exam.manifest) == len(exam.measures) == 24
    for utterance in exam.manifest:
        audio = read_audio(utterance.path)
        assert (utterance.audio_sha256, utterance.duration_s) == (audio.sha256, pytest.approx(audio.duration_s))


def test_unreadable_clips_are_set_aside_with_the_reason(healthy):
    (healthy / "03a01Wa.wav").write_bytes(b"")
    exam = examine(CorpusRequest(str(healthy)), jobs=1)
    (odd,) = exam.unreadable
    assert odd.name == "03a01Wa"
    assert "03a01Wa" not in exam.manifest.column("id")
    assert len(exam.measures) == 23


def test_progress_ends_with_all_clips(healthy, monkeypatch):
    monkeypatch.setattr(examination, "CLIPS_PER_CHUNK", 10)
    calls = []
    examine(CorpusRequest(str(healthy)), jobs=1, progress=lambda done, everything: calls.append((done, everything)))
    assert calls == [(10, 24), (20, 24), (24, 24)]


def test_several_processes_find_the_same(healthy, monkeypatch):
    (healthy / "08a01Wa.wav").write_bytes(b"RIFF")
    shutil.copy(healthy / "03a01Wa.wav", healthy / "09a04Wa.wav")
    alone = examine(CorpusRequest(str(healthy)), jobs=1)
    monkeypatch.setattr(examination, "MIN_POOL_CLIPS", 1)
    monkeypatch.setattr(examination, "CLIPS_PER_CHUNK", 5)
    together = examine(CorpusRequest(str(healthy)), jobs=2)
    assert together.measures == alone.measures
    assert together.unreadable == alone.unreadable
    assert together.recordings == alone.recordings


def test_ids_of_several_corpora_have_the_corpus_as_prefix(healthy, tone_corpus):
    shutil.copy(healthy / "03a01Wa.wav", healthy / "03a01Xa.wav")
    collected = collect_files(CorpusRequest(f"{healthy}+{tone_corpus}"))
    assert collected.name == "emodb+ravdess"
    assert collected.manifest.column("id")[0] == "emodb/03a01Fa"
    assert [odd.name for odd in collected.misfits] == ["emodb/03a01Xa.wav"]


def test_a_folder_without_audio_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="holds no audio of emodb"):
        collect_files(CorpusRequest(str(tmp_path / "empty"), as_name="emodb"))


def test_an_unknown_corpus_is_refused():
    with pytest.raises(UnknownChoice, match="emo-db"):
        collect_files(CorpusRequest("emo-db"))
