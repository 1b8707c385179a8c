"""The validated table of a corpus."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ser_platform.corpora.manifest import SCHEMA, Manifest, Utterance
from ser_platform.errors import CorpusError

FULL = Utterance(
    id="03",
    path=Path("/speech/03.wav"),
    corpus="made",
    speaker="made-007",
    emotion="anger",
    start_s=0.5,
    end_s=1.25,
    sex="male",
    age="31",
    language="de",
    intensity="strong",
    sentence="a01",
    repetition="1",
    dialogue="dialogue, 7",
    session="s1",
    part="dev",
    votes='anger;"fear"',
    duration_s=0.75,
    audio_sha256="ab12",
)
BARE = Utterance("04", Path("/speech/04.wav"), "made", "made-008", "neutral")


def manifest_of(*utterances: Utterance) -> Manifest:
    return Manifest.from_utterances(utterances)


def table_of(**columns: list) -> pa.Table:
    row = {"id": ["1"], "path": ["1.wav"], "corpus": ["made"], "speaker": ["made-1"], "emotion": ["anger"]}
    return pa.table(row | columns)


def test_a_manifest_yields_its_utterances():
    assert list(manifest_of(FULL, BARE)) == [FULL, BARE]


def test_a_table_needs_the_required_columns_only():
    assert list(Manifest(table_of())) == [Utterance("1", Path("1.wav"), "made", "made-1", "anger")]


def test_unknown_columns_are_left_out():
    assert Manifest(table_of(mood=["grim"])).table.column_names == SCHEMA.names


def test_the_fingerprint_depends_on_neither_order_nor_paths():
    moved = [replace(FULL, path=Path("/elsewhere/x.wav")), replace(BARE, path=Path("y.wav"))]
    assert manifest_of(FULL, BARE).fingerprint == manifest_of(*moved[::-1]).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"emotion": "fear"},
        {"speaker": "made-9"},
        {"audio_sha256": "cd"},
        {"sex": None},
        {"start_s": 0.25},
        {"id": "05"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_fingerprint_depends_on_labels_speakers_and_audio(change):
    assert manifest_of(replace(FULL, **change), BARE).fingerprint != manifest_of(FULL, BARE).fingerprint


def test_an_id_that_occurs_twice_is_refused_by_name():
    with pytest.raises(CorpusError, match="ids occur twice: 03"):
        manifest_of(FULL, FULL)


def test_an_unknown_emotion_is_refused_naming_the_valid_ones():
    with pytest.raises(CorpusError, match=r"unknown emotions \['joy'\]; choose from neutral, calm"):
        manifest_of(replace(FULL, emotion="joy"))


@pytest.mark.parametrize("name", ["id", "path", "corpus", "speaker", "emotion"])
def test_a_missing_column_or_value_is_refused_by_name(name):
    with pytest.raises(CorpusError, match=f"lacks the column '{name}'; required are id, path"):
        Manifest(table_of().drop_columns([name]))
    for nothing in ("", None):
        with pytest.raises(CorpusError, match=f"rows without '{name}'"):
            Manifest(table_of(**{name: pa.array([nothing], pa.string())}))


def test_labels_are_in_canonical_order_and_targets_are_their_indices():
    manifest = manifest_of(FULL, BARE)
    assert manifest.labels == ("neutral", "anger")
    assert manifest.encode_targets(manifest.labels).tolist() == [1, 0]
    assert manifest.encode_targets(("anger", "fear", "neutral")).tolist() == [0, 2]


def test_rows_are_taken_in_the_given_order():
    assert list(manifest_of(FULL, BARE).take(np.array([1, 0]))) == [BARE, FULL]


def test_a_changed_column_does_not_change_the_original_manifest():
    manifest = manifest_of(FULL, BARE)
    changed = manifest.with_column("duration_s", [1.0, 2.0])
    assert [u.duration_s for u in changed] == [1.0, 2.0]
    assert [u.duration_s for u in manifest] == [0.75, None]


def test_speakers_are_sorted():
    assert manifest_of(BARE, FULL).speakers == ("made-007", "made-008")


def test_a_cross_tabulation_counts_pairs_of_values():
    manifest = manifest_of(BARE, replace(BARE, id="05"), replace(BARE, id="06", speaker="made-001", emotion="anger"))
    assert manifest.speakers == ("made-001", "made-008")
    assert manifest.encode_column("emotion")[1] == ("anger", "neutral")
    assert manifest.cross_tabulate("speaker", "emotion").tolist() == [[1, 0], [0, 2]]


def test_an_empty_value_has_no_code():
    codes, values = manifest_of(BARE, replace(BARE, id="05", sex="male")).encode_column("sex")
    assert (codes.tolist(), values) == ([-1, 0], ("male",))


def test_ids_of_joined_corpora_contain_the_corpus():
    joined = Manifest.join([manifest_of(BARE), manifest_of(replace(BARE, corpus="other", speaker="other-008"))])
    assert list(joined.column("id")) == ["made/04", "other/04"]
    assert joined.corpora == ("made", "other")


def test_relabelling_renames_and_drops():
    manifest = manifest_of(FULL, BARE, replace(BARE, id="05", emotion="calm"))
    changed = manifest.relabel({"anger": None, "neutral": "neutral", "calm": "neutral"})
    assert [(u.id, u.emotion) for u in changed] == [("04", "neutral"), ("05", "neutral")]
    assert changed.fingerprint != manifest.fingerprint
    with pytest.raises(CorpusError, match="no clip is left of anger, calm, neutral"):
        manifest.relabel({"anger": None, "neutral": None, "calm": None})
