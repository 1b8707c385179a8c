"""The contract of all corpus adapters on small trees with real file names, and the names of each corpus."""

from dataclasses import dataclass, field
from pathlib import PurePath

import pytest

from ser_platform.corpora.audio.reader import AUDIO_SUFFIXES, list_audio_files
from ser_platform.corpora.corpus_lookup import find_corpus
from ser_platform.corpora.datasets import CORPORA, crema_d, emodb, esd, hindi, nemo, ravdess, ravdess_song, savee, tess
from ser_platform.corpora.facts import ExcludedFile, Misfit
from ser_platform.corpora.manifest import Manifest, Utterance
from ser_platform.emotions import EMOTIONS
from ser_platform.errors import CorpusError

DEMOGRAPHICS = '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","Asian","-"\n1002,21,"Female","Asian","-"\n'
MELD_COLUMNS = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
IEMOCAP_CLIPS = "Session1/sentences/wav/Ses01F_impro01"
ENGLISH_TABLE = "0011_000001\tThe nine the eggs, I keep.\tNeutral\n0011_000352\tA line without its emotion\n"


@dataclass(frozen=True)
class Example:
    """A small tree of a corpus.

    `clips` maps paths to (emotion, speaker, sex), `tables` maps other paths to their content; `outside` is an audio
    file with a name of no corpus.
    """

    clips: dict[str, tuple[str, str, str | None]]
    tables: dict[str, str] = field(default_factory=dict)
    outside: str = "hello.wav"


EXAMPLES = {
    "demo": Example({"03-01-05-02-01-02-11.wav": ("anger", "demo-11", "male")}),
    "ravdess": Example(
        {
            "Actor_01/03-01-01-01-02-01-01.wav": ("neutral", "ravdess-01", "male"),
            "Actor_12/03-01-06-01-02-01-12.WAV": ("fear", "ravdess-12", "female"),
        }
    ),
    "ravdess_song": Example({"Actor_12/03-02-03-01-02-01-12.wav": ("happiness", "ravdess-12", "female")}),
    "crema_d": Example(
        {
            "AudioWAV/1001_DFA_ANG_XX.wav": ("anger", "crema_d-1001", "male"),
            "AudioWAV/1003_IEO_FEA_LO.wav": ("fear", "crema_d-1003", None),
        },
        {"VideoDemographics.csv": DEMOGRAPHICS},
    ),
    "tess": Example(
        {
            "OAF_Pleasant_surprise/OAF_back_ps.wav": ("surprise", "tess-OAF", "female"),
            "OAF_neutral/OA_bite_neutral.wav": ("neutral", "tess-OAF", "female"),
            "YAF_angry/YAF_back_angry.wav": ("anger", "tess-YAF", "female"),
        }
    ),
    "savee": Example(
        {
            "AudioData/DC/a01.wav": ("anger", "savee-DC", "male"),
            "AudioData/KL/su15.wav": ("surprise", "savee-KL", "male"),
        }
    ),
    "emodb": Example(
        {"wav/03a01Fa.wav": ("happiness", "emodb-03", "male"), "wav/16b10Lb.wav": ("boredom", "emodb-16", "female")}
    ),
    "meld": Example(
        {
            "dev_splits_complete/dia0_utt0.wav": ("surprise", "meld-phoebe", "female"),
            "train_splits/dia0_utt0.wav": ("neutral", "meld-the-interviewer", None),
        },
        {
            "dev_sent_emo.csv": f"{MELD_COLUMNS}\n1,Oh my God!,Phoebe,surprise,negative,0,0,4,7,,\n",
            "train_sent_emo.csv": f"{MELD_COLUMNS}\n1,I see.,The Interviewer,neutral,neutral,0,0,8,21,,\n",
        },
    ),
    "iemocap": Example(
        {
            f"{IEMOCAP_CLIPS}/Ses01F_impro01_F000.wav": ("neutral", "iemocap-1F", "female"),
            f"{IEMOCAP_CLIPS}/Ses01F_impro01_M012.wav": ("excitement", "iemocap-1M", "male"),
        },
        {
            "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": (
                "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\n"
                "[66.4200 - 69.3400]\tSes01F_impro01_M012\texc\t[2.5000, 3.0000, 2.5000]\n"
            )
        },
    ),
    "hindi": Example(
        {
            "3/session10/happy/3.10.happy-15.wav": ("happiness", "hindi-3", None),
            "3/session2/sarcastic/3.2.sarcastic-01.wav": ("sarcasm", "hindi-3", None),
        }
    ),
    "esd": Example(
        {
            "0001/Angry/0001_000351.wav": ("anger", "esd-0001", "female"),
            "0011/Neutral/test/0011_000021.wav": ("neutral", "esd-0011", "male"),
        },
        {"0011/0011.txt": ENGLISH_TABLE},
    ),
    "nemo": Example(
        {
            "samples/EB0_anger_1.wav": ("anger", "nemo-EB0", "female"),
            "samples/WR0_surprised_64.wav": ("surprise", "nemo-WR0", "male"),
        },
        {"data.tsv": "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"},
    ),
    "folder": Example(
        {
            "Angry/one.wav": ("anger", "folder-corpus-unknown", None),
            "joy/anna/two.flac": ("happiness", "folder-corpus-unknown", None),
        }
    ),
}
GRAMMARS = [name for name in CORPORA if name not in ("demo", "folder")]


def write_files(root, names, content=""):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return root


@pytest.fixture
def example(request, tmp_path):
    """The example of the corpus that a test is parametrised with, and the folder of its tree."""
    found = EXAMPLES[request.getfixturevalue("name")]
    root = write_files(tmp_path / "corpus", found.clips)
    for name, content in found.tables.items():
        write_files(root, [name], content)
    return root, found


def read(corpus, root):
    return list(corpus.utterances(root))


def read_one(corpus, root, name):
    write_files(root, [name])
    (found,) = corpus.utterances(root)
    return found


def test_every_corpus_has_an_example():
    assert EXAMPLES.keys() == CORPORA.keys()


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_states_its_facts(name):
    corpus = CORPORA[name]
    facts = corpus.FACTS
    assert facts.title and facts.licence and facts.homepage.startswith("http")
    assert facts.archives or facts.how_to_get
    assert corpus.__doc__
    if name != "folder":
        assert facts.citation and facts.languages
    if facts.clips is not None:
        assert facts.clips > facts.speakers > 1


@pytest.mark.parametrize("name", CORPORA)
def test_the_archives_of_a_corpus_can_be_fetched_and_checked(name):
    for archive in CORPORA[name].FACTS.archives:
        assert archive.url.startswith("http")
        assert archive.n_bytes is None or archive.n_bytes > 1_000_000
        kind, _, digest = (archive.checksum or "md5:" + 32 * "0").partition(":")
        assert len(bytes.fromhex(digest)) == {"md5": 16, "sha256": 32}[kind]


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_maps_its_codes_to_known_emotions(name):
    assert set(CORPORA[name].EMOTIONS.values()) - {None} <= set(EMOTIONS)


@pytest.mark.parametrize("name", CORPORA)
def test_each_clip_has_its_emotion_speaker_and_sex(name, example):
    root, expected = example
    found = read(CORPORA[name], root)
    assert all(isinstance(entry, Utterance) for entry in found)
    labels = {u.path.relative_to(root).as_posix(): (u.emotion, u.speaker, u.sex) for u in found}
    assert labels == expected.clips
    if name != "folder":
        assert {u.corpus for u in found} == {name}
        assert {u.language for u in found} <= set(CORPORA[name].FACTS.languages)


@pytest.mark.parametrize("name", CORPORA)
def test_the_clips_make_a_manifest_ordered_by_path(name, example):
    root, _ = example
    found = read(CORPORA[name], root)
    assert [u.path for u in found] == sorted(u.path for u in found)
    assert len(Manifest.from_utterances(found)) == len({u.id for u in found}) == len(found)


@pytest.mark.parametrize("name", CORPORA)
def test_a_folder_without_audio_has_no_entries(name, tmp_path):
    assert read(CORPORA[name], write_files(tmp_path / "empty", ["README.md"])) == []


@pytest.mark.parametrize("name", CORPORA)
def test_hidden_files_and_files_without_audio_are_ignored(name, example):
    root, expected = example
    before = read(CORPORA[name], root)
    clip = PurePath(next(iter(expected.clips)))
    write_files(root, ["README.md", "docs/notes.pdf", str(clip.with_name(f"._{clip.name}")), str("__MACOSX" / clip)])
    assert read(CORPORA[name], root) == before


@pytest.mark.parametrize("name", CORPORA)
def test_a_misnamed_clip_is_a_misfit_and_the_others_are_read(name, example):
    root, expected = example
    write_files(root, [expected.outside])
    misfits = [entry for entry in read(CORPORA[name], root) if not isinstance(entry, Utterance)]
    assert [(type(misfit), misfit.path) for misfit in misfits] == [(Misfit, root / expected.outside)]
    assert PurePath(expected.outside).stem in str(misfits[0])
    assert not CORPORA[name].recognises(PurePath(expected.outside))


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_corpus_is_recognised_by_its_own_adapter_alone(name, example):
    root, _ = example
    paths = [path.relative_to(root) for path in list_audio_files(root)]
    assert {other for other in CORPORA if any(map(CORPORA[other].recognises, paths))} == {name}
    assert find_corpus(str(root)).adapter_name == name


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_corpus_in_a_subfolder_is_recognised(name, example):
    root, _ = example
    assert find_corpus(str(root.parent)).adapter_name == name


@pytest.mark.parametrize("suffix", sorted(AUDIO_SUFFIXES))
def test_any_audio_format_is_a_clip(suffix, tmp_path):
    assert read_one(emodb, tmp_path, f"03a01Fa{suffix}").id == "03a01Fa"


@pytest.mark.parametrize(
    ("corpus", "clip", "message"),
    [
        (ravdess, "03-01-09-01-01-01-01", "unknown emotion '09'; valid are 01, 02, 03, 04, 05, 06, 07, 08"),
        (ravdess, "03-01-03-03-01-01-01", "unknown intensity '03'; valid are 01, 02"),
        (ravdess, "03-03-03-01-01-01-01", "unknown channel '03'; valid are 01, 02"),
        (emodb, "03a01Xa", "unknown emotion 'X'; valid are W, L, E, A, F, T, N"),
        (emodb, "04a01Fa", "unknown speaker '04'; valid are 03, 08, 09"),
        (crema_d, "1001_IEO_SUR_HI", "unknown emotion 'SUR'; valid are ANG, DIS, FEA, HAP, NEU, SAD"),
        (crema_d, "1001_ABC_ANG_HI", "unknown sentence 'ABC'; valid are IEO, TIE, IOM"),
        (crema_d, "1001_IEO_ANG_ME", "unknown intensity 'ME'; valid are LO, MD, HI, XX"),
        (tess, "OAF_back_calm", "unknown emotion 'calm'; valid are angry, disgust, fear, happy, neutral, ps, sad"),
        (savee, "DC_c01", "unknown emotion 'c'; valid are a, d, f, h, n, sa, su"),
        (savee, "MM/a01", "unknown speaker 'MM', the folder of a01; valid are DC, JE, JK, KL"),
        (hindi, "1.1.joy-01", "unknown emotion 'joy'; valid are anger, disgust, fear, happy, neutral, sadness"),
        (hindi, "11.1.happy-01", "unknown speaker '11'; valid are 1, 2, 3"),
        (hindi, "1.SESSION.happy-1", "'1.SESSION.happy-1' neither names a session"),
        (esd, "Angry/0021_000001", "unknown speaker '0021'; valid are 0001 to 0020"),
        (esd, "Angry/0020_001751", "unknown number '001751'; valid are 000001 to 001750"),
        (esd, "Fear/0020_000001", "neither a folder nor a line of 0020.txt names the emotion.*valid are angry, happy"),
        (nemo, "EB0_joy_1", "unknown emotion 'joy'; valid are anger, fear, happiness, neutral, sadness, surprised"),
        (nemo, "XY0_anger_1", "unknown speaker 'XY0'; valid are EB0, IC0"),
    ],
)
def test_an_unknown_code_is_a_misfit_naming_the_code_and_the_valid_ones(corpus, clip, message, tmp_path):
    misfit = read_one(corpus, tmp_path, f"{clip}.wav")
    assert isinstance(misfit, Misfit)
    with pytest.raises(CorpusError, match=rf"{PurePath(clip).name}\.wav: {message}"):
        raise CorpusError(str(misfit))


# RAVDESS


@pytest.mark.parametrize("code", ravdess.EMOTIONS)
def test_ravdess_names_its_emotion_third(code, tmp_path):
    found = read_one(ravdess, tmp_path, f"03-01-{code}-02-01-02-07.flac")
    assert found.emotion == ravdess.EMOTIONS[code]
    assert (found.intensity, found.sentence, found.repetition, found.sex) == ("strong", "01", "02", "male")


def test_ravdess_speech_leaves_song_out_and_song_leaves_speech_out(tmp_path):
    write_files(tmp_path, ["03-01-03-01-01-01-01.wav", "03-02-03-01-01-01-01.wav"])
    speech, song = ravdess.utterances(tmp_path)
    assert (speech.id, song) == ("03-01-03-01-01-01-01", ExcludedFile(tmp_path / "03-02-03-01-01-01-01.wav", "song"))
    speech, song = ravdess_song.utterances(tmp_path)
    assert (speech, song.id) == (ExcludedFile(tmp_path / "03-01-03-01-01-01-01.wav", "speech"), "03-02-03-01-01-01-01")
    assert song.speaker == "ravdess-01"


# EmoDB


@pytest.mark.parametrize("letter", emodb.EMOTIONS)
def test_emodb_names_its_emotion_by_a_german_letter(letter, tmp_path):
    found = read_one(emodb, tmp_path, f"16b10{letter}c.wav")
    assert (found.emotion, found.sentence, found.repetition) == (emodb.EMOTIONS[letter], "b10", "c")
    assert (found.speaker, found.sex, found.age, found.language) == ("emodb-16", "female", "31", "de")


# CREMA-D

SUMMARY = (
    '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"\n'
    '"1","1001_IEO_NEU_XX","N","69.1","N","92.22","N","64.78"\n'
    '"9","1001_IEO_ANG_MD","A:D","37.2:58.6","A","45.5","A","44.2"\n'
)


@pytest.mark.parametrize("code", crema_d.EMOTIONS)
def test_crema_d_names_its_emotion_third(code, tmp_path):
    assert read_one(crema_d, tmp_path, f"1001_IEO_{code}_HI.wav").emotion == crema_d.EMOTIONS[code]


@pytest.mark.parametrize(("code", "intensity"), [("LO", "low"), ("MD", "medium"), ("HI", "high"), ("XX", None)])
def test_crema_d_names_its_intensity_last(code, intensity, tmp_path):
    found = read_one(crema_d, tmp_path, f"1001_IEO_SAD_{code}.wav")
    assert (found.intensity, found.sentence) == (intensity, "IEO")


def test_crema_d_takes_sex_and_age_from_the_demographics(tmp_path):
    write_files(tmp_path, ["VideoDemographics.csv"], DEMOGRAPHICS)
    write_files(tmp_path, [f"AudioWAV/{actor}_IEO_ANG_HI.wav" for actor in (1001, 1002, 1003)])
    man, woman, unlisted = crema_d.utterances(tmp_path)
    assert [(u.sex, u.age) for u in (man, woman, unlisted)] == [("male", "51"), ("female", "21"), (None, None)]


def test_crema_d_reads_tables_in_the_parent_folder_too(tmp_path):
    write_files(tmp_path, ["VideoDemographics.csv"], DEMOGRAPHICS)
    write_files(tmp_path, ["processedResults/summaryTable.csv"], SUMMARY)
    found = read_one(crema_d, tmp_path / "AudioWAV", "1001_IEO_ANG_MD.wav")
    assert (found.sex, found.votes) == ("male", "A:D 37.2:58.6")


def test_crema_d_votes_are_the_emotion_and_its_strength(tmp_path):
    write_files(tmp_path, ["processedResults/summaryTable.csv"], SUMMARY)
    write_files(tmp_path, ["1001_IEO_ANG_MD.wav", "1001_IEO_FEA_HI.wav", "1001_IEO_NEU_XX.wav"])
    assert [u.votes for u in crema_d.utterances(tmp_path)] == ["A:D 37.2:58.6", None, "N 69.1"]


def test_crema_d_refuses_a_table_without_its_columns(tmp_path):
    write_files(tmp_path, ["VideoDemographics.csv"], "ActorID,Gender\n1001,Male\n")
    with pytest.raises(CorpusError, match=r"VideoDemographics\.csv lacks the columns Age, Sex"):
        read_one(crema_d, tmp_path, "1001_IEO_ANG_MD.wav")


def test_crema_d_reads_the_short_name_of_early_releases(tmp_path):
    found = read_one(crema_d, tmp_path, "1040_ITH_SAD_X.wav")
    assert (found.id, found.intensity) == ("1040_ITH_SAD_XX", None)


def test_crema_d_prefers_the_wav_of_a_clip_to_its_mp3(tmp_path):
    write_files(
        tmp_path, ["AudioMP3/1001_IEO_ANG_MD.mp3", "AudioMP3/1001_IEO_FEA_HI.mp3", "AudioWAV/1001_IEO_ANG_MD.wav"]
    )
    copy, mp3, wav = crema_d.utterances(tmp_path)
    assert copy == ExcludedFile(tmp_path / "AudioMP3/1001_IEO_ANG_MD.mp3", "second copy")
    assert [clip.path.suffix for clip in (mp3, wav)] == [".mp3", ".wav"]


# TESS


@pytest.mark.parametrize("token", tess.EMOTIONS)
def test_tess_names_its_emotion_last(token, tmp_path):
    found = read_one(tess, tmp_path, f"YAF_back_{token}.wav")
    assert (found.emotion, found.sentence, found.sex, found.age) == (tess.EMOTIONS[token], "back", "female", "26")


def test_the_misspelt_tess_name_is_read_as_oaf(tmp_path):
    found = read_one(tess, tmp_path, "OAF_neutral/OA_bite_neutral.wav")
    assert (found.id, found.speaker, found.age) == ("OAF_bite_neutral", "tess-OAF", "64")


def test_tess_clips_may_all_be_in_one_folder(tmp_path):
    write_files(tmp_path, ["OAF_back_angry.wav", "YAF_back_ps.wav", "YAF_Back_Sad.wav"])
    assert [(u.id, u.emotion) for u in tess.utterances(tmp_path)] == [
        ("OAF_back_angry", "anger"),
        ("YAF_back_sad", "sadness"),
        ("YAF_back_ps", "surprise"),
    ]


def test_a_download_with_two_copies_of_tess_yields_each_clip_once(tmp_path):
    name = "TESS Toronto emotional speech set data"
    clips = ["OAF_angry/OAF_back_angry.wav", "YAF_angry/YAF_back_angry.wav"]
    write_files(tmp_path, [f"{name}/{clip}" for clip in clips] + [f"{name}/{name}/{clip}" for clip in clips])
    found = find_corpus(str(tmp_path))
    manifest, left_out = found.read_manifest()
    assert (found.adapter_name, list(manifest.column("id"))) == ("tess", ["OAF_back_angry", "YAF_back_angry"])
    assert left_out == {"second copy": 2}


# SAVEE


@pytest.mark.parametrize("letters", savee.EMOTIONS)
def test_savee_names_its_emotion_by_one_letter_or_two(letters, tmp_path):
    found = read_one(savee, tmp_path, f"JK/{letters}07.wav")
    assert (found.id, found.emotion) == (f"JK_{letters}07", savee.EMOTIONS[letters])
    assert (found.speaker, found.sex, found.sentence) == ("savee-JK", "male", f"{letters}07")


def test_the_savee_speaker_is_in_the_name_or_the_folder(tmp_path):
    write_files(tmp_path, ["ALL/DC_a01.wav", "ALL/KL_sa15.wav", "JE/n30.wav"])
    found = read(savee, tmp_path)
    assert [u.id for u in found] == ["DC_a01", "KL_sa15", "JE_n30"]
    assert [u.emotion for u in found] == ["anger", "sadness", "neutral"]


def test_savee_in_both_layouts_yields_each_clip_once(tmp_path):
    write_files(tmp_path, ["ALL/DC_a01.wav", "AudioData/DC/a01.wav"])
    first, second = savee.utterances(tmp_path)
    assert (first.id, second) == ("DC_a01", ExcludedFile(tmp_path / "AudioData/DC/a01.wav", "second copy"))


def test_short_names_in_other_folders_are_not_recognised_as_savee():
    assert not savee.recognises(PurePath("takes/a01.wav"))


# Hindi


@pytest.mark.parametrize("token", hindi.EMOTIONS)
def test_the_hindi_corpus_names_its_emotion_third(token, tmp_path):
    found = read_one(hindi, tmp_path, f"4/session10/{token}/4.10.{token}-09.wav")
    assert (found.id, found.emotion) == (f"4.10.{token}-09", hindi.EMOTIONS[token])
    assert (found.speaker, found.session, found.sentence) == ("hindi-4", "10", "09")


@pytest.mark.parametrize(
    "name",
    [
        "1.2.anger-3",
        "1. 2. Anger - 3",
        "1 .2 .ANGER-03",
        " 01.02.anger-3 ",
        "1.session2.anger-3",
        "1.SESSION 2.Anger-3",
        "1/session2/Anger/1.SESSION.anger-3",
        "1/Session 2/1.session.anger-3",
    ],
)
def test_spaces_and_capitals_of_hindi_names_are_ignored(name, tmp_path):
    found = read_one(hindi, tmp_path, f"{name}.wav")
    assert (found.id, found.speaker, found.session, found.sentence) == ("1.2.anger-03", "hindi-1", "2", "03")
    assert hindi.recognises(PurePath(f"{name}.wav"))


# ESD


@pytest.mark.parametrize(
    ("folder", "number", "emotion"),
    [
        ("Neutral", 1, "neutral"),
        ("Angry", 351, "anger"),
        ("Happy", 701, "happiness"),
        ("Sad", 1051, "sadness"),
        ("Surprise", 1401, "surprise"),
    ],
)
def test_esd_has_the_same_sentences_in_every_emotion(folder, number, emotion, tmp_path):
    found = read_one(esd, tmp_path, f"0012/{folder}/0012_{number:06d}.wav")
    assert (found.emotion, found.sentence, found.part) == (emotion, "en-001", "dev")


@pytest.mark.parametrize("offset", [0, 350, 700, 1050, 1400])
@pytest.mark.parametrize(
    ("sentence", "part"), [(1, "dev"), (20, "dev"), (21, "test"), (50, "test"), (51, "train"), (350, "train")]
)
def test_esd_parts_are_by_sentence(offset, sentence, part, tmp_path):
    found = read_one(esd, tmp_path, f"0001/Sad/0001_{offset + sentence:06d}.wav")
    assert (found.part, found.sentence) == (part, f"zh-{sentence:03d}")


def test_esd_speakers_are_ten_men_and_ten_women_in_two_languages(tmp_path):
    write_files(tmp_path, [f"{n:04d}/Happy/train/{n:04d}_000751.wav" for n in range(1, 21)])
    found = read(esd, tmp_path)
    assert [u.language for u in found] == ["zh"] * 10 + ["en"] * 10
    assert [u.speaker for u in found if u.sex == "male"] == [
        f"esd-00{n:02d}" for n in (4, 5, 6, 8, 10, 11, 12, 13, 14, 20)
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "gb2312", "utf-16"])
def test_esd_clips_in_one_folder_have_the_emotions_of_the_tables(encoding, tmp_path):
    table = tmp_path / "0001.txt"
    table.write_bytes(
        "0001_000001\t打远一看,它们的确很是吸引人。\t中立\r\n\r\n0001_000351\t他对谁都那么友好。\t生气\r\n".encode(
            encoding
        )
    )
    write_files(tmp_path, ["0001_000001.wav", "0001_000351.wav", "0001_000701.wav"])
    neutral, anger, unlisted = esd.utterances(tmp_path)
    assert (neutral.emotion, anger.emotion) == ("neutral", "anger")
    assert "nor a line of 0001.txt names the emotion of '0001_000701'" in str(unlisted)


def test_esd_tables_in_latin_letters_of_another_encoding_are_read(tmp_path):
    (tmp_path / "0016.txt").write_bytes(b"0016_000001\tIt\x92s a caf\xe9, \xff.\tNeutral\n")
    assert read_one(esd, tmp_path, "0016_000001.wav").emotion == "neutral"


def test_an_esd_table_with_an_unknown_emotion_makes_misfits(tmp_path):
    write_files(tmp_path, ["0011.txt"], "0011_000001\tThe nine the eggs, I keep.\tBored\n")
    assert "unknown emotion 'Bored'; valid are angry, happy" in str(read_one(esd, tmp_path, "0011_000001.wav"))


def test_the_same_esd_clip_under_two_emotions_is_a_misfit(tmp_path):
    write_files(tmp_path, ["0011/Angry/0011_000351.wav", "0011/Happy/0011_000351.wav"])
    first, second = esd.utterances(tmp_path)
    assert (first.emotion, type(second)) == ("anger", Misfit)
    assert "is the clip '0011_000351' like" in str(second) and "with other labels" in str(second)


# nEMO


@pytest.mark.parametrize("token", nemo.EMOTIONS)
def test_nemo_names_its_emotion_in_the_middle(token, tmp_path):
    found = read_one(nemo, tmp_path, f"samples/MK0_{token}_90.wav")
    assert (found.emotion, found.sentence) == (nemo.EMOTIONS[token], "90")
    assert (found.speaker, found.sex, found.age, found.language) == ("nemo-MK0", "female", "23", "pl")


def test_a_copy_in_another_folder_has_the_same_fingerprint(tmp_path):
    clips = EXAMPLES["nemo"].clips
    here, there = (
        find_corpus(str(write_files(tmp_path / place, clips))).read_manifest()[0] for place in ("here", "there")
    )
    assert here.fingerprint == there.fingerprint
