"""MELD: labels in three tables, clips in three folders, and the errors of the release."""

import pytest

from ser_platform.corpora.corpus_lookup import FoundCorpus
from ser_platform.corpora.datasets import meld
from ser_platform.corpora.facts import ExcludedFile, Misfit
from ser_platform.corpora.manifest import Manifest, Utterance
from ser_platform.errors import CorpusError, UserError

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
TIMES = '"00:16:16,059","00:16:21,731"'
COMPANY_S = "company\u2019s"  # with a typographic apostrophe
FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}


def row(dialogue, utterance, emotion="neutral", speaker="Chandler", text="That I did."):
    return f'1,"{text}",{speaker},{emotion},neutral,{dialogue},{utterance},8,21,{TIMES}\n'


@pytest.fixture
def release(tmp_path):
    """Return a function that writes a part: its table, and the files in its folder."""

    def write(part, rows, files, encoding="utf-8"):
        root = tmp_path / "MELD.Raw"
        folder = root / FOLDERS[part]
        folder.mkdir(parents=True)
        (root / f"{part}_sent_emo.csv").write_bytes((HEADER + "".join(rows)).encode(encoding))
        for name in files:
            (folder / name).touch()
        return root

    return write


def test_a_clip_is_described_by_the_row_of_its_dialogue_and_utterance(release, ffmpeg):
    rows = [row(0, 0, "surprise", "Joey"), row(0, 1, "joy", "Monica", "You did, did you?"), row(1, 0)]
    root = release("train", rows, ["dia0_utt0.mp4", "dia0_utt1.mp4", "dia1_utt0.mp4"])
    _, second, _ = meld.utterances(root)
    assert second == Utterance(
        id="train/dia0_utt1",
        path=root / "train_splits" / "dia0_utt1.mp4",
        corpus="meld",
        speaker="meld-monica",
        emotion="happiness",
        sex="female",
        language="en",
        sentence="You did, did you?",
        dialogue="train/dia0",
        session="s08e21",
        part="train",
    )


def test_the_same_number_in_three_parts_is_three_clips(release):
    for part in FOLDERS:
        root = release(part, [row(0, 0)], ["dia0_utt0.wav"])
    manifest = FoundCorpus("meld", root).read_manifest()[0]
    assert sorted(manifest.column("id")) == ["dev/dia0_utt0", "test/dia0_utt0", "train/dia0_utt0"]
    assert sorted(manifest.column("part")) == ["dev", "test", "train"]
    assert len(set(manifest.column("dialogue"))) == 3


@pytest.mark.parametrize("token", meld.EMOTIONS)
def test_each_of_the_seven_emotions_is_read_in_any_case(token, release):
    root = release("dev", [row(3, 4, token.title())], ["dia3_utt4.wav"])
    (found,) = meld.utterances(root)
    assert found.emotion == meld.EMOTIONS[token]


@pytest.mark.parametrize("name", ["The Interviewer", "the  interviewer ", "THE INTERVIEWER"])
def test_a_speaker_is_the_same_in_any_case_and_spacing(name, release):
    (found,) = meld.utterances(release("dev", [row(0, 0, speaker=name)], ["dia0_utt0.wav"]))
    assert (found.speaker, found.sex) == ("meld-the-interviewer", None)


@pytest.mark.parametrize(
    ("written", "encoding"),
    [(COMPANY_S, "utf-8"), ("company\x92s", "utf-8"), (COMPANY_S, "cp1252"), (COMPANY_S, "utf-8-sig")],
)
def test_the_apostrophes_of_every_edition_of_the_tables_are_read(written, encoding, release):
    (found,) = meld.utterances(release("train", [row(0, 0, text=written)], ["dia0_utt0.wav"], encoding))
    assert found.sentence == COMPANY_S


def test_a_listed_clip_without_a_file_is_excluded(release):
    root = release("dev", [row(110, 6), row(110, 7)], ["dia110_utt6.wav"])
    found, missing = meld.utterances(root)
    assert found.id == "dev/dia110_utt6"
    assert missing == ExcludedFile(root / "dev" / "dia110_utt7", "listed in dev_sent_emo.csv without a clip")


def test_a_clip_in_no_table_is_excluded(release):
    root = release("dev", [row(66, 8)], ["dia66_utt8.wav", "dia66_utt9.wav"])
    _, extra = meld.utterances(root)
    assert extra == ExcludedFile(root / "dev_splits_complete" / "dia66_utt9.wav", "not listed in dev_sent_emo.csv")


def test_of_two_cuts_of_a_test_clip_the_final_one_is_taken(release, ffmpeg):
    root = release("test", [row(93, 6)], ["dia93_utt6.mp4", "final_videos_testdia93_utt6.mp4"])
    other, found = meld.utterances(root)
    assert (found.id, found.path.name) == ("test/dia93_utt6", "final_videos_testdia93_utt6.mp4")
    assert other == ExcludedFile(root / FOLDERS["test"] / "dia93_utt6.mp4", "another cut or format of a clip")


def test_audio_is_preferred_to_the_video_of_a_clip(release, monkeypatch):
    monkeypatch.setenv("PATH", "")  # audio needs no ffmpeg
    root = release("train", [row(0, 0)], ["dia0_utt0.MP4", "dia0_utt0.wav"])
    assert [entry.path.suffix for entry in meld.utterances(root) if isinstance(entry, Utterance)] == [".wav"]


def test_hidden_files_of_macos_are_ignored(release):
    root = release("test", [row(0, 0)], ["dia0_utt0.wav", "._dia0_utt0.wav", "._dia0_utt0.mp4"])
    assert len(list(meld.utterances(root))) == 1


def test_the_tables_may_be_deeper_than_the_clips_of_other_parts(release, tmp_path):
    root = release("train", [row(0, 0)], ["dia0_utt0.wav"])
    (root / "train").mkdir()
    (root / "train_sent_emo.csv").rename(root / "train" / "train_sent_emo.csv")
    (root / "train_splits").rename(root / "train" / "train_splits")
    assert [u.id for u in meld.utterances(root)] == ["train/dia0_utt0"]


@pytest.mark.parametrize("name", ["train", "train_wav", "meld_train", "Train"])
def test_a_folder_may_have_another_name_that_contains_the_part(name, release):
    root = release("train", [row(0, 0)], ["dia0_utt0.wav"])
    (root / "train_splits").rename(root / name)
    assert [u.part for u in meld.utterances(root)] == ["train"]


def test_a_clip_in_no_part_is_a_misfit_naming_the_valid_ones(release):
    root = release("train", [], [])
    (root / "trainers").mkdir()
    (root / "trainers" / "dia0_utt0.wav").touch()
    (misfit,) = meld.utterances(root)
    assert isinstance(misfit, Misfit) and "valid are train, dev, test" in misfit.reason


def test_a_part_without_its_table_is_a_misfit_naming_the_table(release):
    root = release("train", [], ["dia0_utt0.wav"])
    (root / "train_sent_emo.csv").unlink()
    (misfit,) = meld.utterances(root)
    assert isinstance(misfit, Misfit) and "there is no table of labels train_sent_emo.csv" in misfit.reason


def test_an_unknown_emotion_is_a_misfit_naming_the_valid_ones(release):
    (misfit,) = meld.utterances(release("train", [row(0, 0, "bliss")], ["dia0_utt0.wav"]))
    assert isinstance(misfit, Misfit)
    assert "unknown emotion 'bliss'; valid are neutral, joy, surprise" in misfit.reason


def test_a_table_without_its_columns_is_refused(release):
    root = release("train", [], ["dia0_utt0.wav"])
    (root / "train_sent_emo.csv").write_text("Utterance,Speaker\nHi,Joey\n")
    with pytest.raises(CorpusError, match=r"train_sent_emo\.csv lacks the columns Emotion, Dialogue_ID, Utterance_ID"):
        list(meld.utterances(root))


def test_an_invalid_number_is_refused_naming_the_line(release):
    root = release("train", [row(0, 0), row("one", 2)], ["dia0_utt0.wav"])
    with pytest.raises(CorpusError, match=r"train_sent_emo\.csv line 3"):
        list(meld.utterances(root))


def test_without_ffmpeg_video_is_refused_before_anything_is_read(release, monkeypatch):
    monkeypatch.setenv("PATH", "")
    root = release("train", [row(0, 0), row(0, 1)], ["dia0_utt0.mp4", "dia0_utt1.mp4"])
    with pytest.raises(UserError, match="mp4 files, like MELD's, need ffmpeg"):
        FoundCorpus("meld", root).read_manifest()


def test_the_counts_in_the_docstring_add_up():
    lines = meld.__doc__.splitlines()
    rows = [line.split("|")[2:-1] for part in FOLDERS for line in lines if line.startswith(f"| {part} |")]
    counts = [[int(cell) for cell in cells] for cells in rows]
    assert [sum(cells[:-1]) for cells in counts] == [cells[-1] for cells in counts] == [9989, 1109, 2610]
    assert sum(cells[-1] for cells in counts) == meld.FACTS.clips


def test_the_order_is_by_path_and_the_ids_are_unique(release):
    files = [f"dia{n}_utt{m}.wav" for n in (10, 2, 1) for m in (0, 11, 3)]
    root = release("train", [row(n, m) for n in (1, 2, 10) for m in (0, 3, 11)], files)
    found = list(meld.utterances(root))
    assert [u.path for u in found] == sorted(root / "train_splits" / name for name in files)
    assert len(Manifest.from_utterances(found)) == 9
