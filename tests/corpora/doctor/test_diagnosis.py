"""Findings have the level, the numbers and the ids of what spoils an experiment; a healthy corpus has none."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.corpora.datasets import CORPORA, emodb
from ser_platform.corpora.doctor.diagnosis import BEWARE, NOTE, SPOILS, diagnose
from ser_platform.corpora.doctor.examination import examine


def rewrite(path, change, rate=16_000):
    samples, _ = soundfile.read(path)
    soundfile.write(path, change(samples), rate)


def test_a_healthy_corpus_has_nothing_that_spoils(healthy, findings):
    found = findings(healthy)
    assert set(found) == {"sentences-on-both-sides", "imbalance"}
    assert found["imbalance"].level == NOTE
    assert found["imbalance"].text == "classes are uneven, 2.0 : 1 (anger 12 clips, neutral 6)"


def test_the_same_clip_under_two_speakers_spoils(healthy, findings):
    shutil.copy(healthy / "03a01Wa.wav", healthy / "08a04Wa.wav")
    found = findings(healthy)["same-audio-two-speakers"]
    assert (found.level, found.clips) == (SPOILS, ("03a01Wa", "08a04Wa"))
    assert found.speakers == ("emodb-03", "emodb-08")
    assert found.text.startswith("1 recording (1 identical) under two speakers")
    assert found.details == ("03a01Wa (emodb-03, anger) = 08a04Wa (emodb-08, anger): identical",)


def test_a_near_copy_under_two_speakers_spoils(healthy, findings):
    samples, _ = soundfile.read(healthy / "03a01Wa.wav")
    soundfile.write(healthy / "08a04Wa.ogg", 0.5 * soxr.resample(samples, 16_000, 8000), 8000)
    found = findings(healthy)
    assert found["same-audio-two-speakers"].clips == ("03a01Wa", "08a04Wa")
    assert "1 nearly identical" in found["same-audio-two-speakers"].text
    assert found["mixed-rates"].clips == ("08a04Wa",)


def test_the_same_clip_with_two_labels_spoils(healthy, findings):
    shutil.copy(healthy / "03a01Wa.wav", healthy / "03a04Ta.wav")
    found = findings(healthy)
    assert found["same-audio-two-labels"].level == SPOILS
    assert found["same-audio-two-labels"].clips == ("03a01Wa", "03a04Ta")
    assert "same-audio-two-speakers" not in found


def test_the_same_clip_on_two_sides_of_the_split_spoils(healthy, findings):
    for speaker in ("08", "09", "10", "11", "12"):
        shutil.copy(healthy / "03a01Wa.wav", healthy / f"{speaker}a04Wa.wav")
    found = findings(healthy)["same-audio-across-split"]
    assert (found.level, len(found.clips)) == (SPOILS, 6)


def test_copies_within_a_speaker_and_emotion_are_warnings(healthy, findings):
    shutil.copy(healthy / "03a01Wa.wav", healthy / "03a04Wa.wav")
    rewrite(shutil.copy(healthy / "08a01Fa.wav", healthy / "08a04Fa.wav"), lambda samples: samples / 2)
    found = findings(healthy)
    assert (found["duplicates"].level, found["duplicates"].clips) == (BEWARE, ("03a01Wa", "03a04Wa"))
    assert (found["near-duplicates"].level, found["near-duplicates"].clips) == (BEWARE, ("08a01Fa", "08a04Fa"))


def test_every_file_outside_the_grammar_is_named(healthy, findings):
    for number in range(9):
        shutil.copy(healthy / "03a01Wa.wav", healthy / f"03a0{number}Xa.wav")
    shutil.copy(healthy / "03a01Wa.wav", healthy / "take 1.wav")
    found = findings(healthy)["misfits"]
    assert (found.level, len(found.clips)) == (SPOILS, 10)
    assert found.details[0] == ("03a00Xa.wav: unknown emotion 'X'; valid are W, L, E, A, F, T, N")
    assert found.details[-1].startswith("take 1.wav: 'take 1' is no EmoDB name")


def test_a_second_file_with_the_same_id_spoils(healthy, findings):
    (healthy / "more").mkdir()
    soundfile.write(healthy / "more" / "03a01Wa.wav", np.random.default_rng(99).normal(0, 0.1, 16_000), 16_000)
    found = findings(healthy)["misfits"]
    assert found.level == SPOILS
    assert "is the clip '03a01Wa' like" in found.details[0] and "another recording" in found.details[0]


def test_unreadable_files_spoil_only_beyond_the_limit(healthy, findings):
    path = healthy / "03a01Wa.wav"
    path.write_bytes(path.read_bytes()[:2000])
    strict, patient = findings(healthy)["unreadable"], findings(healthy, max_bad=0.05)["unreadable"]
    assert (strict.level, patient.level) == (BEWARE, BEWARE)
    assert patient.text == "1 file of 24 cannot be used (4.2%, within --max-bad 0.05)"
    assert patient.details[0].startswith("03a01Wa: is truncated")
    spoilt = findings(healthy, max_bad=0.04)["unreadable"]
    assert (spoilt.level, spoilt.clips) == (SPOILS, ("03a01Wa",))


def test_fewer_than_three_speakers_spoil(healthy, findings):
    for path in healthy.glob("*.wav"):
        if path.name[:2] not in ("03", "08"):
            path.unlink()
    found = findings(healthy)
    assert found["few-speakers"].level == SPOILS
    assert found["few-speakers"].speakers == ("emodb-03", "emodb-08")
    assert "no-split" not in found


def test_an_emotion_of_one_speaker_spoils(healthy, findings):
    soundfile.write(healthy / "09a04Ea.wav", np.random.default_rng(99).normal(0, 0.1, 16_000), 16_000)
    found = findings(healthy)
    assert found["one-speaker-class"].level == SPOILS
    assert found["one-speaker-class"].details == ("disgust: emodb-09",)
    assert found["missing-classes"].details[0] == "emodb-03 has no disgust"


def test_an_emotion_of_too_few_speakers_for_a_split_is_reported(healthy, findings):
    for path in healthy.glob("*Fa.wav"):
        if path.name[:2] not in ("03", "12"):
            path.unlink()
    found = findings(healthy)
    assert found["missing-classes"].speakers == ("emodb-08", "emodb-09", "emodb-10", "emodb-11")
    assert "split-gaps" in found


def test_a_corpus_with_one_emotion_spoils(healthy, findings):
    for path in healthy.glob("*.wav"):
        if "W" not in path.name:
            path.unlink()
    assert findings(healthy)["one-class"].level == SPOILS


def test_a_corpus_without_speakers_spoils_and_the_finding_names_the_option(healthy, findings, monkeypatch):
    def nameless(root):
        return (replace(entry, speaker="emodb-unknown") for entry in emodb.utterances(root))

    monkeypatch.setitem(CORPORA, "emodb", SimpleNamespace(recognises=emodb.recognises, utterances=nameless))
    found = findings(healthy)
    assert found["unknown-speakers"].level == SPOILS
    assert "--speaker-from" in found["unknown-speakers"].text
    named = findings(healthy, speaker_from=r"^(\d\d)")
    assert not {"unknown-speakers", "few-speakers"} & set(named)


def test_clipping_and_dc_offset_are_named(healthy, findings):
    rewrite(healthy / "03a01Wa.wav", lambda samples: np.clip(20 * samples, -1, 1))
    rewrite(healthy / "08a01Wa.wav", lambda samples: samples + 0.1)
    found = findings(healthy)
    assert (found["clipping"].level, found["clipping"].clips) == (BEWARE, ("03a01Wa",))
    assert (found["dc-offset"].level, found["dc-offset"].clips) == (BEWARE, ("08a01Wa",))


def test_mixed_rates_name_the_clips_of_the_rarer_rate(healthy, findings):
    rewrite(healthy / "03a01Wa.wav", lambda samples: soxr.resample(samples, 16_000, 44_100), 44_100)
    found = findings(healthy)["mixed-rates"]
    assert (found.level, found.details) == (BEWARE, ("03a01Wa: 44100 Hz",))
    assert "23 at 16000 Hz, 1 at 44100 Hz" in found.text


def test_very_short_and_very_long_clips_are_named(healthy, findings):
    rewrite(healthy / "03a01Wa.wav", lambda samples: samples[:4000])
    rewrite(healthy / "08a01Wa.wav", lambda samples: np.random.default_rng(99).normal(0, 0.1, 16_000 * 25))
    found = findings(healthy)
    assert found["short-clips"].details == ("03a01Wa: 0.25 s",)
    assert found["long-clips"].details == ("08a01Wa: 25.00 s",)
    assert found["cut-clips"].level == NOTE


def test_strong_imbalance_is_a_warning(healthy, findings):
    for path in healthy.glob("*Fa.wav"):
        if path.name[:2] not in ("03", "08", "09"):
            path.unlink()
    found = findings(healthy)["imbalance"]
    assert (found.level, found.text) == (BEWARE, "classes are uneven, 4.0 : 1 (anger 12 clips, happiness 3)")


def test_sentences_of_train_and_test_are_named(healthy, findings):
    found = findings(healthy)["sentences-on-both-sides"]
    assert (found.level, found.details) == (BEWARE, ("a01", "a02"))


def test_rules_for_labels_apply_before_the_diagnosis(healthy, findings):
    shutil.copy(healthy / "03a01Wa.wav", healthy / "03a04Na.wav")
    assert "same-audio-two-labels" in findings(healthy)
    merged = findings(healthy, labels="neutral -> anger")
    assert "same-audio-two-labels" not in merged
    assert merged["labels"].text == "the rules for labels: neutral counts as anger"


def test_what_a_corpus_leaves_out_is_noted(tone_corpus, tmp_path, findings):
    root = shutil.copytree(tone_corpus, tmp_path / "tones")
    shutil.copy(root / "Actor_01" / "03-01-01-01-01-01-01.wav", root / "Actor_01" / "03-02-01-01-01-01-01.wav")
    assert findings(root)["left-out"].text == "the corpus leaves out 1 song"


def test_two_corpora_with_other_emotions_are_reported(healthy, tone_corpus, findings):
    found = findings(f"{healthy}+{tone_corpus}")
    assert "corpora-differ" not in found  # both have neutral, happiness, anger
    shutil.copy(healthy / "03a01Wa.wav", healthy / "03a04Ta.wav")
    assert findings(f"{healthy}+{tone_corpus}")["corpora-differ"].details == ("ravdess has no sadness",)


def test_findings_are_sorted_by_level(healthy):
    shutil.copy(healthy / "03a01Wa.wav", healthy / "08a04Wa.wav")
    levels = [finding.level for finding in diagnose(examine(CorpusRequest(str(healthy)), jobs=1))]
    assert levels == sorted(levels, key=(SPOILS, BEWARE, NOTE).index)


@pytest.mark.parametrize("n_kept", [0, 1])
def test_a_corpus_with_one_clip_or_none_is_reported_without_a_crash(n_kept, healthy, findings):
    for path in sorted(healthy.glob("*.wav"))[n_kept:]:
        path.write_bytes(b"RIFF")
    found = findings(healthy)
    assert found["unreadable"].level == SPOILS
    assert found["few-speakers"].level == SPOILS
