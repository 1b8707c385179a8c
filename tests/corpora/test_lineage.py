"""A lineage that contains a dev or test speaker or clip is refused."""

from pathlib import Path

import numpy as np
import pytest

from ser_platform.corpora.lineage import Lineage, LineageLeak, refuse_leak
from ser_platform.corpora.manifest import Manifest, Utterance
from ser_platform.corpora.splits.split import Split, split_by_speaker

EMOTIONS = ("neutral", "anger")


def corpus(prefix: str = "made", digest: str = "digest") -> Manifest:
    return Manifest.from_utterances(
        Utterance(
            f"{speaker}-{emotion}",
            Path("x.wav"),
            prefix,
            f"{prefix}-{speaker}",
            emotion,
            audio_sha256=f"{speaker}{emotion}{digest}".ljust(64, "0"),
        )
        for speaker in range(6)
        for emotion in EMOTIONS
    )


@pytest.fixture
def split() -> Split:
    return split_by_speaker(corpus())


def test_the_lineage_of_a_split_is_train_and_dev_but_not_test(split):
    lineage = Lineage.of_split(split)
    assert lineage.trained_speakers == split.speakers("train")
    assert lineage.selected_speakers == split.speakers("dev")
    refuse_leak(lineage, split, "its own model")
    overlap = lineage.find_overlap(split.manifest)
    assert sorted(overlap) == sorted(split.manifest.column("id")[np.concatenate([split.train, split.dev])])


def test_a_model_of_another_seed_is_refused_with_the_clips_in_the_message(split):
    other = next(
        s for s in (split_by_speaker(corpus(), seed) for seed in range(1, 9)) if set(s.train) & set(split.test)
    )
    with pytest.raises(
        LineageLeak, match=r"teacher v3 was trained or selected on \d of the 4 (dev|test) clips.*made-\d"
    ):
        refuse_leak(Lineage.of_split(other), split, "teacher v3")


def test_a_model_selected_on_test_speakers_is_refused(split):
    swapped = Split(split.manifest, split.train, split.test, split.dev, 0)
    with pytest.raises(LineageLeak, match="test clips"):
        refuse_leak(Lineage.of_split(swapped), split, "a model", parts=("test",))


def test_the_same_clip_under_another_speakers_name_is_found(split):
    renamed = corpus("other")
    with pytest.raises(LineageLeak, match="dev clips"):
        refuse_leak(Lineage.of_clips(renamed), split, "unlabelled audio")
    refuse_leak(Lineage.of_clips(corpus("other", "elsewhere")), split, "unlabelled audio")


def test_clips_without_a_digest_are_compared_by_speaker(split):
    bare = Lineage.of_clips(corpus("other").with_column("audio_sha256", [None] * 12))
    assert bare.trained_audio == ()
    assert bare.find_overlap(split.manifest) == []


def test_a_union_has_the_speakers_and_clips_of_both_lineages(split):
    lineage = Lineage.of_split(split).union(Lineage.of_clips(corpus("other", "elsewhere")))
    assert {"other-0", "made-0"} & {*lineage.trained_speakers, *lineage.selected_speakers}
    assert len(lineage.trained_audio) == len(split.train) + 12
