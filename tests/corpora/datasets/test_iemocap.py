"""IEMOCAP: five sessions of a woman and a man; labels and votes are in the evaluation files."""

import pytest

from ser_platform.corpora.datasets import iemocap
from ser_platform.corpora.facts import ExcludedFile, Misfit
from ser_platform.corpora.manifest import Utterance

RATERS = (
    "C-E2:\tNeutral;\t()\nC-E3:\tNeutral; Sadness;\t()\nC-F1:\tNeutral;\t(curious)\nA-E3:\tval 3; act 2; dom  2;\t()\n"
)
VOTES = "C-E2: Neutral; () | C-E3: Neutral; Sadness; () | C-F1: Neutral; (curious) | A-E3: val 3; act 2; dom 2; ()"


@pytest.fixture
def release(tmp_path):
    """Return a function that writes a dialogue with its turns: emotion by name, None for a clip without a line."""

    def write(dialogue, turns, clips=None):
        session = tmp_path / f"Session{dialogue[4]}"
        evaluation = session / "dialog" / "EmoEvaluation"
        wav = session / "sentences" / "wav" / dialogue
        evaluation.mkdir(parents=True, exist_ok=True)
        wav.mkdir(parents=True, exist_ok=True)
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"]
        lines += [
            f"[6.2901 - 8.2357]\t{turn}\t{code}\t[2.5000, 2.5000, 2.5000]\n{RATERS}\n"
            for turn, code in turns.items()
            if code is not None
        ]
        (evaluation / f"{dialogue}.txt").write_text("".join(lines), encoding="latin-1")
        for turn in turns if clips is None else clips:
            (wav / f"{turn}.wav").touch()
        return tmp_path

    return write


def read_one(root):
    (found,) = iemocap.utterances(root)
    return found


def test_a_turn_is_described_by_its_name_and_its_evaluation(release):
    root = release("Ses01F_impro01", {"Ses01F_impro01_M000": "fru"})
    assert read_one(root) == Utterance(
        id="Ses01F_impro01_M000",
        path=root / "Session1" / "sentences" / "wav" / "Ses01F_impro01" / "Ses01F_impro01_M000.wav",
        corpus="iemocap",
        speaker="iemocap-1M",  # not the actor with the markers, the first letter
        emotion="frustration",
        sex="male",
        language="en",
        dialogue="Ses01F_impro01",
        session="1",
        votes=VOTES,
    )


@pytest.mark.parametrize("session", range(1, 6))
@pytest.mark.parametrize("sex", ["female", "male"])
def test_a_session_has_a_woman_and_a_man(session, sex, release):
    dialogue, letter = f"Ses0{session}M_script03_2", sex[0].upper()
    found = read_one(release(dialogue, {f"{dialogue}_{letter}031": "ang"}))
    assert (found.speaker, found.sex, found.session) == (f"iemocap-{session}{letter}", sex, str(session))


@pytest.mark.parametrize("code", [code for code, emotion in iemocap.EMOTIONS.items() if emotion is not None])
def test_a_majority_is_an_emotion(code, release):
    assert read_one(release("Ses02F_impro05", {"Ses02F_impro05_F001": code})).emotion == iemocap.EMOTIONS[code]


@pytest.mark.parametrize(
    ("code", "reason"), [("xxx", "without a majority of raters (xxx)"), ("oth", "of another emotion (oth)")]
)
def test_turns_without_an_emotion_are_left_out_with_the_reason(code, reason, release):
    found = read_one(release("Ses02F_impro05", {"Ses02F_impro05_F001": code}))
    assert isinstance(found, ExcludedFile) and found.reason == reason


@pytest.mark.parametrize("dialogue", ["Ses05M_script01_1b", "Ses03F_impro08b", "Ses04M_script02_2", "Ses01F_impro07"])
def test_dialogues_are_improvised_or_scripted(dialogue, release):
    assert read_one(release(dialogue, {f"{dialogue}_F000": "neu"})).dialogue == dialogue


def test_raters_lines_belong_to_the_turn_above_them(release):
    root = release("Ses01F_impro01", {"Ses01F_impro01_F000": "neu", "Ses01F_impro01_F001": "sad"})
    assert [u.votes for u in iemocap.utterances(root)] == [VOTES, VOTES]


def test_the_sentence_is_the_transcript(release):
    root = release("Ses01F_impro01", {"Ses01F_impro01_F000": "neu", "Ses01F_impro01_M000": "neu"})
    texts = root / "Session1" / "dialog" / "transcriptions"
    texts.mkdir()
    (texts / "Ses01F_impro01.txt").write_text("Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\nM: Yeah.\n")
    assert [u.sentence for u in iemocap.utterances(root)] == ["Excuse me.", None]


def test_recordings_of_whole_dialogues_are_left_out(release):
    root = release("Ses01F_impro01", {"Ses01F_impro01_F000": "neu"})
    (root / "Session1" / "dialog" / "wav").mkdir()
    whole = root / "Session1" / "dialog" / "wav" / "Ses01F_impro01.wav"
    whole.touch()
    left_out, _ = iemocap.utterances(root)
    assert left_out == ExcludedFile(whole, "recording of a whole dialogue")


def test_files_of_single_raters_are_not_read(release):
    root = release("Ses01F_impro01", {"Ses01F_impro01_F000": "neu"})
    for folder in ("Attribute", "Categorical", "Self-evaluation"):
        own = root / "Session1" / "dialog" / "EmoEvaluation" / folder
        own.mkdir()
        (own / "Ses01F_impro01_e2_cat.txt").write_text("Ses01F_impro01_F000 :Anger; ()\n")
        (own / "Ses01F_impro01.txt").write_text("[6.2901 - 8.2357]\tSes01F_impro01_F000\tang\t[2.5, 2.5, 2.5]\n")
    assert read_one(root).emotion == "neutral"


def test_hidden_files_of_macos_are_ignored(release):
    root = release("Ses01F_impro01", {"Ses01F_impro01_F000": "neu"})
    evaluation = root / "Session1" / "dialog" / "EmoEvaluation"
    (evaluation / "._Ses01F_impro01.txt").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
    wav = root / "Session1" / "sentences" / "wav" / "Ses01F_impro01"
    (wav / "._Ses01F_impro01_F000.wav").touch()
    assert read_one(root).emotion == "neutral"


def test_a_clip_that_no_evaluation_lists_is_a_misfit(release):
    misfit = read_one(release("Ses01F_impro01", {"Ses01F_impro01_F000": None}))
    assert isinstance(misfit, Misfit)
    assert "no line of EmoEvaluation/Ses01F_impro01.txt names the emotion of 'Ses01F_impro01_F000'" in misfit.reason


def test_a_listed_turn_without_a_file_is_excluded(release):
    turns = {"Ses01F_impro01_F000": "neu", "Ses01F_impro01_F001": "sad"}
    found, missing = iemocap.utterances(release("Ses01F_impro01", turns, clips=["Ses01F_impro01_F000"]))
    assert found.emotion == "neutral"
    assert (missing.path.name, missing.reason) == ("Ses01F_impro01_F001", "listed in an evaluation without a clip")


def test_an_unknown_emotion_is_a_misfit_naming_the_valid_ones(release):
    misfit = read_one(release("Ses01F_impro01", {"Ses01F_impro01_F000": "joy"}))
    assert isinstance(misfit, Misfit) and "unknown emotion 'joy'; valid are neu, fru, ang" in misfit.reason


@pytest.mark.parametrize("stem", ["Ses06F_impro01_F000", "Ses01F_impro01_X000", "Ses01F_improv_F000", "hello"])
def test_another_name_is_a_misfit(stem, tmp_path):
    (tmp_path / f"{stem}.wav").touch()
    misfit = read_one(tmp_path)
    assert isinstance(misfit, Misfit) and f"{stem!r} is no IEMOCAP name" in misfit.reason


def test_a_second_copy_of_a_session_is_left_out(release, tmp_path):
    root = release("Ses01F_impro01", {"Ses01F_impro01_F000": "neu"})
    (root / "again").mkdir()
    (root / "again" / "Ses01F_impro01_F000.wav").touch()
    assert [type(entry) for entry in iemocap.utterances(root)] == [Utterance, ExcludedFile]


def test_the_counts_in_the_docstring_add_up():
    lines = iemocap.__doc__.splitlines()
    at = lines.index("|---|---|---|---|---|---|---|---|---|---|---|")
    counts = [int(cell) for cell in lines[at + 1].strip("|").split("|")]
    codes = [cell.strip() for cell in lines[at - 1].strip("|").split("|")]
    assert set(codes) == set(iemocap.EMOTIONS)
    assert sum(counts) == sum((1819, 1811, 2136, 2103, 2170)) == iemocap.FACTS.clips
    assert sum(n for code, n in zip(codes, counts, strict=True) if iemocap.EMOTIONS[code]) == 7529
