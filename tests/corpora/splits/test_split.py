"""A split with a leak is refused."""

from pathlib import Path

import numpy as np
import pytest

from ser_platform.corpora.manifest import Manifest, Utterance
from ser_platform.corpora.splits.split import Split, group_training_speakers, split_by_speaker
from ser_platform.errors import CorpusError

EMOTIONS = ("neutral", "anger", "sadness")


def corpus(n_speakers: int, emotions: dict[int, tuple[str, ...]] | None = None, sexes: bool = True) -> Manifest:
    """Return two clips per speaker and emotion; `emotions` maps a speaker to its emotions; odd speakers are male."""
    return Manifest.from_utterances(
        Utterance(
            id=f"{speaker:02}-{emotion}-{take}",
            path=Path(f"{speaker:02}-{emotion}-{take}.wav"),
            corpus="made",
            speaker=f"made-{speaker:02}",
            emotion=emotion,
            sex=("male" if speaker % 2 else "female") if sexes else None,
            audio_sha256=f"digest of {speaker:02}-{emotion}-{take}",
        )
        for speaker in range(n_speakers)
        for emotion in (emotions or {}).get(speaker, EMOTIONS)
        for take in range(2)
    )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("n_speakers", [3, 4, 5, 10, 24])
def test_no_speaker_is_in_two_parts_and_every_clip_is_in_one(n_speakers, seed):
    split = split_by_speaker(corpus(n_speakers), seed)
    train, dev, test = (set(split.speakers(part)) for part in ("train", "dev", "test"))
    assert train.isdisjoint(dev) and train.isdisjoint(test) and dev.isdisjoint(test)
    assert sorted(np.concatenate([split.train, split.dev, split.test])) == list(range(len(split.manifest)))


def test_the_split_depends_on_the_seed():
    manifest = corpus(12)
    assert split_by_speaker(manifest, 3).fingerprint == split_by_speaker(manifest, 3).fingerprint
    assert len({split_by_speaker(manifest, seed).fingerprint for seed in range(5)}) > 1


def test_the_order_of_rows_does_not_change_the_parts_of_speakers():
    manifest = corpus(12)
    reversed_rows = manifest.take(np.arange(len(manifest))[::-1].copy())
    assert split_by_speaker(manifest, 1).speakers("test") == split_by_speaker(reversed_rows, 1).speakers("test")


@pytest.mark.parametrize("seed", range(8))
def test_both_sexes_are_in_dev_and_in_test(seed):
    split = split_by_speaker(corpus(10), seed)
    for part in ("dev", "test"):
        assert set(split.manifest.column("sex")[split.parts[part]]) == {"male", "female"}


def test_speakers_of_unknown_sex_are_split_too():
    split = split_by_speaker(corpus(6, sexes=False))
    assert [len(split.speakers(part)) for part in ("train", "dev", "test")] == [2, 2, 2]


@pytest.mark.parametrize("seed", range(8))
def test_dev_and_test_avoid_a_speaker_that_lacks_an_emotion_if_possible(seed):
    split = split_by_speaker(corpus(10, {0: ("neutral",), 1: ("neutral",)}), seed)
    assert split.missing_emotions == []


def test_emotions_missing_in_dev_and_test_are_named():
    split = split_by_speaker(corpus(4, {0: ("neutral", "anger"), 1: ("neutral", "anger"), 2: ("neutral", "anger")}))
    assert split.missing_emotions == ["dev has no sadness", "test has no sadness"]


def test_an_emotion_of_a_single_speaker_is_in_train():
    split = split_by_speaker(corpus(6, dict.fromkeys(range(5), ("neutral", "anger"))))
    assert "made-05" in split.speakers("train")


@pytest.mark.parametrize("n_speakers", [1, 2])
def test_fewer_than_three_speakers_are_refused(n_speakers):
    with pytest.raises(CorpusError, match=f"{n_speakers} speakers"):
        split_by_speaker(corpus(n_speakers))


def rows_of(manifest: Manifest, *speakers: int) -> np.ndarray:
    return np.flatnonzero(np.isin(manifest.column("speaker"), [f"made-{n:02}" for n in speakers]))


def test_a_speaker_in_train_and_test_is_refused_by_name():
    manifest = corpus(4)
    with pytest.raises(CorpusError, match="speakers in both train and test: made-03"):
        Split(manifest, rows_of(manifest, 0, 1, 3), rows_of(manifest, 2), rows_of(manifest, 3)[:1], seed=0)


def test_the_same_audio_in_two_parts_is_refused_by_clip():
    manifest = corpus(4)
    digests = list(manifest.column("audio_sha256"))
    copy = int(rows_of(manifest, 3)[0])
    digests[copy] = digests[0]
    manifest = manifest.with_column("audio_sha256", digests)
    with pytest.raises(CorpusError, match=r"the same audio in both train and test: .*00-neutral-0, 03-neutral-0"):
        Split(manifest, rows_of(manifest, 0, 1), rows_of(manifest, 2), rows_of(manifest, 3), seed=0)


def test_the_same_audio_twice_within_a_part_is_allowed():
    manifest = corpus(4)
    digests = list(manifest.column("audio_sha256"))
    digests[1] = digests[0]
    manifest = manifest.with_column("audio_sha256", digests)
    split = Split(manifest, rows_of(manifest, 0, 1), rows_of(manifest, 2), rows_of(manifest, 3), seed=0)
    assert {0, 1} <= set(split.train)


def test_an_emotion_missing_from_train_is_refused_by_name():
    manifest = corpus(4, {0: ("neutral", "anger"), 1: ("neutral", "anger")})
    with pytest.raises(CorpusError, match="no training clip of sadness"):
        Split(manifest, rows_of(manifest, 0, 1), rows_of(manifest, 2), rows_of(manifest, 3), seed=0)


def test_an_emotion_that_no_split_leaves_in_train_is_refused():
    with pytest.raises(CorpusError, match="too few speakers"):
        # Three speakers: train has one of them, and none has every emotion.
        split_by_speaker(corpus(3, {0: ("neutral",), 1: ("anger",), 2: ("sadness",)}))


def test_other_dev_speakers_do_not_change_the_test_speakers():
    split = split_by_speaker(corpus(10))
    chosen = split.speakers("train")[:2]
    rotated = split.with_dev(chosen)
    assert rotated.speakers("dev") == chosen
    assert rotated.speakers("test") == split.speakers("test")
    assert rotated.test_fingerprint == split.test_fingerprint
    assert rotated.fingerprint != split.fingerprint
    assert set(rotated.speakers("train")) == {*split.speakers("train"), *split.speakers("dev")} - {*chosen}


def test_the_test_fingerprint_changes_with_a_test_label():
    split = split_by_speaker(corpus(10))
    emotions = list(split.manifest.column("emotion"))
    row = int(split.test[0])
    emotions[row] = next(emotion for emotion in EMOTIONS if emotion != emotions[row])
    relabelled = split.manifest.with_column("emotion", emotions)
    changed = Split(relabelled, split.train, split.dev, split.test, split.seed)
    assert changed.test_fingerprint != split.test_fingerprint


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n_speakers", [4, 6, 10, 24])
def test_groups_contain_each_training_speaker_once(n_speakers, seed):
    split = split_by_speaker(corpus(n_speakers), seed)
    groups = group_training_speakers(split)
    assert len(groups) >= 2
    assert sorted(speaker for group in groups for speaker in group) == list(split.speakers("train"))


def test_groups_are_as_large_as_dev_and_have_both_sexes():
    for group in group_training_speakers(split_by_speaker(corpus(10))):
        assert sorted(int(speaker[-1]) % 2 for speaker in group) == [0, 1]
