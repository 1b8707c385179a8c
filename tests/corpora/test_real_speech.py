"""The adapters on the real corpora: the counts are those of the publishers."""

from collections import Counter

import pytest

from ser_platform.corpora.audio.reader import read_audio
from ser_platform.corpora.corpus_lookup import find_corpus, locate_corpus
from ser_platform.corpora.datasets import CORPORA
from ser_platform.corpora.splits.split import split_by_speaker

pytestmark = pytest.mark.corpora

REAL = [name for name in CORPORA if name not in ("demo", "folder")]
WHOLE = [
    name for name in REAL if name not in ("meld", "iemocap")
]  # some clips of these two have no label, some labels no clip
EMODB_CLIPS = {"03": 49, "08": 58, "09": 43, "10": 38, "11": 55, "12": 35, "13": 61, "14": 69, "15": 56, "16": 71}
EMODB_EMOTIONS = {"anger": 127, "boredom": 81, "disgust": 46, "fear": 69, "happiness": 71, "neutral": 79, "sadness": 62}


def manifest_of(name):
    if locate_corpus(name) is None:
        pytest.skip(f"no {name} under SER_CORPORA")
    return find_corpus(name).read_manifest()[0]


@pytest.mark.parametrize("name", WHOLE)
def test_a_corpus_is_complete(name):
    manifest = manifest_of(name)
    facts = CORPORA[name].FACTS
    assert (len(manifest), len(manifest.speakers)) == (facts.clips, facts.speakers)
    assert set(manifest.labels) == set(CORPORA[name].EMOTIONS.values()) - {None}


@pytest.mark.parametrize("name", REAL)
def test_the_folder_is_recognised_without_its_name(name):
    manifest_of(name)
    assert find_corpus(str(locate_corpus(name))).adapter_name == name


def test_emodb_has_its_clips_by_speaker_and_by_emotion():
    manifest = manifest_of("emodb")
    assert Counter(manifest.column("speaker")) == {f"emodb-{speaker}": n for speaker, n in EMODB_CLIPS.items()}
    assert Counter(manifest.column("emotion")) == EMODB_EMOTIONS
    assert Counter(manifest.column("sex"))["male"] == 49 + 38 + 55 + 35 + 56


def test_emodb_speaker_08_has_no_disgust():
    counts = Counter((u.speaker, u.emotion) for u in manifest_of("emodb"))
    assert counts["emodb-08", "disgust"] == 0
    assert counts["emodb-03", "disgust"] == 1


def test_ravdess_has_its_clips_by_speaker_and_by_emotion():
    manifest = manifest_of("ravdess")
    others = ("calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
    assert Counter(manifest.column("emotion")) == {"neutral": 96} | dict.fromkeys(others, 192)
    assert Counter(manifest.column("speaker")) == {f"ravdess-{actor:02d}": 60 for actor in range(1, 25)}
    assert Counter(manifest.column("sex")) == {"male": 720, "female": 720}


def test_ravdess_has_eight_clips_per_actor_and_emotion_but_four_neutral():
    counts = Counter((u.speaker, u.emotion) for u in manifest_of("ravdess"))
    assert {n for (_, emotion), n in counts.items() if emotion == "neutral"} == {4}
    assert {n for (_, emotion), n in counts.items() if emotion != "neutral"} == {8}
    assert len(counts) == 24 * 8


@pytest.mark.parametrize("name", ["emodb", "ravdess"])
@pytest.mark.parametrize("seed", range(5))
def test_real_speakers_are_split_with_every_emotion_everywhere(name, seed):
    split = split_by_speaker(manifest_of(name), seed)
    assert split.missing_emotions == []
    for part in ("dev", "test"):
        assert set(split.manifest.column("sex")[split.parts[part]]) == {"male", "female"}


@pytest.mark.parametrize("name", ["emodb", "ravdess"])
def test_every_thirtieth_clip_is_speech_of_plausible_length(name):
    for utterance in list(manifest_of(name))[::30]:
        assert 1.0 < read_audio(utterance.path).duration_s < 10.0
