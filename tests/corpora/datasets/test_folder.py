"""A folder of recordings: a directory per emotion, or a table as in Hugging Face's audiofolder."""

import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from ser_platform.corpora.corpus_lookup import (
    CorpusRequest,
    FoundCorpus,
    find_corpora,
    find_corpus,
    read_requested_speech,
)
from ser_platform.corpora.datasets import folder
from ser_platform.corpora.facts import ExcludedFile, Misfit
from ser_platform.corpora.manifest import Manifest, Utterance
from ser_platform.emotions import EMOTIONS
from ser_platform.errors import CorpusError, UserError

VALID = ", ".join(EMOTIONS)


@pytest.fixture
def root(tmp_path):
    place = tmp_path / "My Voices"
    place.mkdir()
    return place


def write_files(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write_table(root, text, name="metadata.csv"):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")
    return root


def read(root, **columns):
    return list(folder.utterances(root, columns))


def read_one(root, **columns):
    (found,) = folder.utterances(root, columns)
    return found


# A directory per emotion


def test_a_clip_has_the_emotion_that_its_folder_is_named_after(root):
    found = read_one(write_files(root, "angry/take1.wav"))
    assert found == Utterance(
        "angry/take1", root / "angry" / "take1.wav", "folder-my-voices", "folder-my-voices-unknown", "anger"
    )


@pytest.mark.parametrize(
    ("name", "emotion"),
    [
        ("Sad", "sadness"),
        ("anna/JOY", "happiness"),
        ("fear/anna/monday", "fear"),
        ("pleasant_surprise", "surprise"),
    ],
)
def test_the_emotion_folder_may_be_at_any_depth_and_a_synonym(name, emotion, root):
    assert read_one(write_files(root, f"{name}/take1.wav")).emotion == emotion


def test_a_clip_under_two_emotions_is_a_misfit_naming_both(root):
    misfit = read_one(write_files(root, "angry/Joy/take1.wav"))
    assert isinstance(misfit, Misfit) and "folders of two emotions, Joy and angry" in misfit.reason
    assert read_one(write_files(root.parent / "other", "angry/Anger/take1.wav")).emotion == "anger"


def test_recordings_of_phones_and_browsers_are_clips(root):
    write_files(root, "sad/take1.wav", "sad/take2.m4a", "sad/take3.WEBM", "sad/notes.txt")
    assert [entry.path.name for entry in folder.utterances(root)] == ["take1.wav", "take2.m4a", "take3.WEBM"]


@pytest.mark.parametrize("name", ["take1.wav", "happyish/take1.wav"])
def test_a_clip_in_no_emotion_folder_is_a_misfit_naming_the_valid_ones(name, root):
    misfit = read_one(write_files(root, name))
    assert isinstance(misfit, Misfit)
    assert f"'{'happyish' if '/' in name else 'My Voices'}'" in misfit.reason and VALID in misfit.reason


def test_the_name_of_the_corpus_itself_is_no_emotion(tmp_path):
    assert isinstance(read_one(write_files(tmp_path / "angry", "take1.wav")), Misfit)


def test_clips_are_ordered_by_path_with_unique_ids(root):
    write_files(root, "sad/b.wav", "angry/a.wav", "angry/b.wav", "._angry/x.wav", "angry/._b.wav", "angry/notes.txt")
    assert [u.id for u in read(root)] == ["angry/a", "angry/b", "sad/b"]


def test_files_that_differ_in_their_suffix_are_two_clips(root):
    write_files(root, "sad/a.wav", "sad/a.flac", "sad/b.wav")
    assert [u.id for u in read(root)] == ["sad/a.flac", "sad/a.wav", "sad/b"]


def test_without_a_table_there_are_no_columns_to_map(root):
    with pytest.raises(CorpusError, match="has no table whose columns could be mapped"):
        read(write_files(root, "sad/a.wav"), emotion="label")


# A table


def test_a_row_describes_a_clip(root):
    write_files(root, "data/one.wav")
    write_table(root, "file_name,emotion,speaker,sex,age,language,part\ndata/one.wav,Angry,anna,F,31,de,validation\n")
    assert read_one(root) == Utterance(
        id="data/one",
        path=root / "data" / "one.wav",
        corpus="folder-my-voices",
        speaker="folder-my-voices-anna",
        emotion="anger",
        sex="female",
        age="31",
        language="de",
        part="dev",
    )


@pytest.mark.parametrize("column", folder.TEXT_COLUMNS[6:9] + folder.TEXT_COLUMNS[10:])
def test_every_column_of_a_manifest_is_read(column, root):
    write_table(write_files(root, "one.wav"), f"file_name,emotion,{column}\none.wav,sad,some word\n")
    assert getattr(read_one(root), column) == "some word"


ROWS = [{"file_name": "one.wav", "label": "joy", "speaker": 7}, {"file_name": "two.wav", "label": "sad", "speaker": 12}]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_the_three_table_formats_yield_equal_clips(kind, root):
    write_files(root, "one.wav", "two.wav")
    if kind == "csv":
        write_table(root, "\ufefffile_name,label,speaker\r\none.wav,joy,7\r\ntwo.wav,sad,12\r\n")
    elif kind == "jsonl":
        write_table(root, "\n".join(map(json.dumps, ROWS)) + "\n\n", "metadata.jsonl")
    else:
        pa.parquet.write_table(pa.Table.from_pylist(ROWS), root / "metadata.parquet")
    clips = [(u.id, u.emotion, u.speaker) for u in read(root)]
    assert clips == [("one", "happiness", "folder-my-voices-7"), ("two", "sadness", "folder-my-voices-12")]


def test_samples_inside_a_parquet_table_are_not_read(root):
    rows = [row | {"audio": {"bytes": b"RIFF", "path": "x"}, "raw": b"RIFF", "speaker": 7.0} for row in ROWS]
    pa.parquet.write_table(pa.Table.from_pylist(rows), write_files(root, "one.wav", "two.wav") / "metadata.parquet")
    assert [u.speaker for u in read(root)] == ["folder-my-voices-7"] * 2


def test_file_names_are_relative_to_the_table(root):
    write_files(root, "train/a.wav", "test/a.wav")
    for part in ("train", "test"):
        write_table(root, f"file_name,emotion,part\na.wav,sad,{part}\n", f"{part}/metadata.csv")
    assert [(u.id, u.part) for u in read(root)] == [("test/a", "test"), ("train/a", "train")]


def test_two_tables_in_one_folder_are_refused(root):
    write_table(root, "file_name,emotion\n")
    write_table(root, "", "metadata.jsonl")
    with pytest.raises(CorpusError, match=r"contains metadata\.csv and metadata\.jsonl; keep one of them"):
        read(root)


def test_columns_of_other_names_can_be_mapped(root):
    write_table(write_files(root, "one.wav"), "path,label,emotion,actor\none.wav,sad,irrelevant,anna\n")
    found = read_one(root, file_name="path", emotion="label", speaker="actor")
    assert (found.emotion, found.speaker) == ("sadness", "folder-my-voices-anna")


def test_a_missing_mapped_column_is_refused_naming_the_present_ones(root):
    write_table(write_files(root, "one.wav"), "file_name,emotion,actor\none.wav,sad,anna\n")
    with pytest.raises(CorpusError, match=r"no column 'actress' for speaker; it has file_name, emotion, actor"):
        read(root, speaker="actress")


@pytest.mark.parametrize(("header", "ours"), [("file_name,feeling", "emotion"), ("clip,emotion", "file_name")])
def test_a_table_without_a_required_column_is_refused_with_a_hint(header, ours, root):
    write_table(root, f"{header}\none.wav,sad\n")
    with pytest.raises(CorpusError, match=rf"no column .* it has {header.replace(',', ', ')} .*--column {ours}=NAME"):
        read(root)


def test_an_unknown_column_of_ours_is_refused_naming_the_valid_ones(root):
    write_table(root, "file_name,emotion\n")
    with pytest.raises(CorpusError, match="unknown column 'gender'; valid are file_name, emotion, speaker"):
        read(root, gender="sex")


@pytest.mark.parametrize("label", ["3", "0", "-1", "2.0"])
def test_emotions_as_numbers_are_refused(label, root):
    write_table(write_files(root, "one.wav"), f"file_name,label\none.wav,{label}\n")
    with pytest.raises(CorpusError, match="row 1: the emotion in column 'label' is the number .*write words: neutral"):
        read(root)


def test_class_labels_of_parquet_are_refused_too(root):
    table = pa.table({"file_name": ["one.wav"], "label": pa.array([4], pa.int64())})
    pa.parquet.write_table(table, write_files(root, "one.wav") / "metadata.parquet")
    with pytest.raises(CorpusError, match="is the number 4"):
        read(root)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("one.wav,bliss,,", f"row 1 of metadata.csv: unknown emotion 'bliss'; choose from: {VALID}"),
        ("one.wav,,,", f"row 1 of metadata.csv has no emotion; valid are {VALID}"),
        (",sad,,", "row 1 names no file"),
        ("gone.wav,sad,,", "no such file, which row 1 of metadata.csv names"),
        ("../outside.wav,sad,,", "row 1 of metadata.csv leaves the folder"),
        ("a/../../outside.wav,sad,,", "row 1 of metadata.csv leaves the folder"),
        ("/etc/passwd,sad,,", "row 1 of metadata.csv leaves the folder"),
        (f"{'x' * 300}.wav,sad,,", "no such file"),
        (".,sad,,", "no such file"),
        ("one.wav,sad,soon,", "start_s 'soon' is not a time in seconds"),
        ("one.wav,sad,nan,", "start_s 'nan' is not a time in seconds"),
        ("one.wav,sad,,-1", "end_s '-1' is not a time in seconds"),
        ("one.wav,sad,2,1.5", "end_s 1.5 is not after start_s 2"),
    ],
)
def test_an_invalid_row_is_a_misfit_with_the_reason(row, reason, root):
    write_files(root.parent, "outside.wav")
    write_table(write_files(root, "one.wav"), f"file_name,emotion,start_s,end_s\n{row}\n")
    misfits = [entry for entry in read(root) if not isinstance(entry, ExcludedFile)]
    assert [type(misfit) for misfit in misfits] == [Misfit]
    assert reason in misfits[0].reason


def test_an_unknown_part_is_a_misfit_naming_the_valid_ones(root):
    write_table(write_files(root, "one.wav"), "file_name,emotion,part\none.wav,sad,fold 3\n")
    assert "unknown part 'fold 3'; valid are train, dev, test" in read_one(root).reason


def test_a_path_with_dots_may_stay_in_the_folder(root):
    write_table(write_files(root, "audio/one.wav"), "file_name,emotion\n../audio/one.wav,sad\n", "tables/metadata.csv")
    assert (read_one(root).id, read_one(root).path) == ("audio/one", root / "audio" / "one.wav")


def test_parts_of_a_file_are_clips_with_unique_ids(root):
    write_table(
        write_files(root, "talk.wav"),
        "file_name,emotion,start_s,end_s\ntalk.wav,sad,10,12.5\ntalk.wav,joy,0,2\ntalk.wav,fear,1234.5678,\n",
    )
    found = read(root)
    assert [u.id for u in found] == ["talk#0-2", "talk#10-12.5", "talk#1234.5678-"]
    assert [(u.start_s, u.end_s) for u in found] == [(0.0, 2.0), (10.0, 12.5), (1234.5678, None)]
    assert len(Manifest.from_utterances(found)) == 3


def test_a_clip_that_is_listed_twice_is_a_misfit(root):
    write_table(write_files(root, "one.wav"), "file_name,emotion\none.wav,sad\n./one.wav,joy\n")
    assert [type(entry) for entry in read(root)] == [Utterance, Misfit]


def test_files_that_differ_in_their_suffix_keep_it_in_their_ids(root):
    write_table(write_files(root, "a.wav", "a.flac"), "file_name,emotion,start_s\na.wav,sad,\na.flac,sad,1\n")
    assert [u.id for u in read(root)] == ["a.flac#1-", "a.wav"]


def test_a_clip_that_no_row_lists_is_left_out(root):
    write_table(write_files(root, "one.wav", "two.wav"), "file_name,emotion\none.wav,sad\n")
    assert read(root)[1] == ExcludedFile(root / "two.wav", "in no table of metadata")


def test_a_clip_without_a_speaker_has_the_speaker_unknown(root):
    write_table(write_files(root, "one.wav", "two.wav"), "file_name,emotion,speaker\none.wav,sad,anna\ntwo.wav,joy,\n")
    manifest = Manifest.from_utterances(read(root))
    assert list(manifest.column("speaker")) == ["folder-my-voices-anna", "folder-my-voices-unknown"]
    assert manifest.corpora_without_speakers == ("folder-my-voices",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.jsonl", b'{"file_name": "one.wav"\n'),
        ("metadata.jsonl", b"[1, 2]\n"),
        ("metadata.parquet", b"PAR1 but no more"),
        ("metadata.csv", b"file_name,emotion\n\xff\xfe\xff,sad\n"),
    ],
)
def test_a_damaged_table_is_refused_by_name(name, content, root):
    (root / name).write_bytes(content)
    with pytest.raises(CorpusError, match=rf"{name} cannot be read: .+"):
        read(root)


# Recognition


def test_a_folder_is_recognised_by_its_emotions_or_by_its_table(tmp_path):
    by_emotion = write_files(tmp_path / "a", "angry/one.wav", "sad/two.wav", "odd.wav")
    by_table = write_table(
        write_files(tmp_path / "b", "one.wav"), "file_name,emotion\none.wav,sad\n", "train/metadata.csv"
    )
    assert find_corpus(str(by_emotion)).adapter_name == find_corpus(str(by_table)).adapter_name == "folder"


def test_a_folder_with_too_few_emotion_folders_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="too few folders are named after emotions, and there is no metadata.csv"):
        find_corpus(str(write_files(tmp_path / "a", "anna/one.wav", "sad/two.wav")))


def test_the_speaker_can_be_read_from_the_path(tmp_path):
    root = write_files(tmp_path / "voices", "angry/anna_1.wav", "sad/bob_1.wav")
    (found,) = find_corpora(CorpusRequest(str(root), speaker_from=r"/([a-z]+)_"))
    assert list(found.read_manifest()[0].column("speaker")) == ["folder-voices-anna", "folder-voices-bob"]


def test_misfits_of_a_table_are_refused_by_name(root):
    write_table(write_files(root, "one.wav"), "file_name,emotion\none.wav,bliss\ngone.wav,sad\n")
    with pytest.raises(UserError, match=r"one\.wav: row 1 of metadata\.csv: unknown emotion 'bliss'"):
        FoundCorpus("folder", root).read_manifest()


@pytest.mark.parametrize(
    ("name", "corpus"), [("My Voices", "folder-my-voices"), ("emo-db_2", "folder-emo-db-2"), ("声", "folder-corpus")]
)
def test_the_corpus_is_named_after_its_folder(name, corpus, tmp_path):
    assert folder.corpus_name(tmp_path / name) == corpus


# Other names of columns


@pytest.mark.parametrize("file_name", ["filename", "Path", "FILE", "audio"])
@pytest.mark.parametrize("speaker", ["speaker_id", "SPK", "Actor", "subject", "Speaker"])
def test_columns_are_recognised_by_their_usual_names_in_any_case(file_name, speaker, root):
    write_table(write_files(root, "one.wav"), f"{file_name},Label,{speaker},Gender\none.wav,sad,anna,F\n")
    found = read_one(root)
    assert (found.emotion, found.speaker, found.sex) == ("sadness", "folder-my-voices-anna", "female")
    assert folder.describe_columns(root, {}) == [
        f"column {file_name} is used as file_name",
        "column Label is used as emotion",
        f"column {speaker} is used as speaker",
        "column Gender is used as sex",
    ]


def test_a_standard_column_precedes_other_names_and_is_not_reported(root):
    write_table(write_files(root, "one.wav"), "file_name,path,emotion,label,speaker,spk\none.wav,x,sad,joy,anna,bob\n")
    found = read_one(root)
    assert (found.path.name, found.emotion, found.speaker) == ("one.wav", "sadness", "folder-my-voices-anna")
    assert folder.describe_columns(root, {}) == []


def test_two_columns_for_one_are_refused_by_name_and_a_mapped_one_wins(root):
    write_table(write_files(root, "one.wav"), "file_name,emotion,Actor,subject\none.wav,sad,anna,weather\n")
    with pytest.raises(CorpusError, match="columns Actor and subject for speaker; choose one with --column speaker="):
        read(root)
    assert read_one(root, speaker="Actor").speaker == "folder-my-voices-anna"
    assert folder.describe_columns(root, {"speaker": "Actor"}) == []
    assert read_one(root, session="subject").speaker == "folder-my-voices-anna"


def test_a_speaker_in_the_path_needs_no_recognised_column(root):
    write_table(write_files(root, "anna.wav"), "file_name,emotion,subject\nanna.wav,sad,weather\n")
    request = CorpusRequest(str(root), speaker_from="(anna)")
    assert read_requested_speech(request).manifest.speakers == ("folder-my-voices-anna",)


def test_recognised_columns_are_notes_of_the_speech(root):
    write_table(write_files(root, "one.wav"), "file_name,emotion,speaker_id\none.wav,sad,anna\n")
    assert read_requested_speech(CorpusRequest(str(root))).notes == (
        "folder-my-voices: column speaker_id is used as speaker",
    )
