"""Scores by group of speakers: the clips of each group, and the groupings that are reported."""

from pathlib import Path

import numpy as np
import pytest

from ser_platform.corpora.manifest import Manifest, Utterance
from ser_platform.evaluation.groups import score_groups

LABELS = ("anger", "neutral")


def manifest_of(*clips: tuple[str, str | None, str]) -> Manifest:
    """Return clips of (speaker, sex, emotion)."""
    return Manifest.from_utterances(
        Utterance(str(n), Path(f"{n}.wav"), "demo", f"demo-{speaker}", emotion, sex=sex, language="de")
        for n, (speaker, sex, emotion) in enumerate(clips)
    )


def test_each_sex_is_scored_over_its_own_clips_and_the_unknown_are_left_out():
    clips = manifest_of(
        ("a", "female", "anger"),
        ("a", "female", "neutral"),
        ("b", "female", "neutral"),
        ("c", "male", "anger"),
        ("d", None, "anger"),
    )
    scores = score_groups(clips, LABELS, np.array([0, 1, 0, 1, 0]))
    assert [(one.grouping, one.group, one.n_speakers, one.n_clips) for one in scores] == [
        ("sex", "female", 2, 3),
        ("sex", "male", 1, 1),
    ]
    assert [one.uar for one in scores] == pytest.approx([0.75, 0.0])  # female: anger 1 of 1, neutral 1 of 2


def test_a_grouping_with_one_group_is_left_out():
    assert score_groups(manifest_of(("a", "male", "anger"), ("b", "male", "neutral")), LABELS, np.array([0, 1])) == []
