"""A corpus is found by name under SER_CORPORA, or by path and its file names."""

import os

import pytest

from ser_platform.corpora.corpus_lookup import CorpusRequest, find_corpus, locate_corpus, read_requested_speech
from ser_platform.corpora.datasets import CORPORA
from ser_platform.errors import CorpusError, UnknownChoice, UserError

NAMES = {"ravdess": "03-01-06-01-02-01-12.wav", "emodb": "03a01Fa.wav"}


@pytest.fixture
def speech(tmp_path, monkeypatch):
    """The folder `SER_CORPORA`."""
    root = tmp_path / "speech"
    root.mkdir()
    monkeypatch.setenv("SER_CORPORA", str(root))
    return root


def write_files(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_a_name_is_found_under_ser_corpora(speech):
    write_files(speech / "emodb", NAMES["emodb"])
    found = find_corpus("emodb")
    assert (found.adapter_name, found.root) == ("emodb", speech / "emodb")


def test_a_folder_may_have_a_suffix_after_a_hyphen(speech):
    write_files(speech / "ravdess-speech")
    assert find_corpus("ravdess").root == speech / "ravdess-speech"


def test_a_folder_without_a_suffix_is_preferred(speech):
    write_files(speech / "ravdess-speech")
    write_files(speech / "ravdess")
    assert locate_corpus("ravdess") == speech / "ravdess"


def test_another_corpus_with_the_same_beginning_is_not_found(speech):
    write_files(speech / "emodb2")
    assert locate_corpus("emodb") is None


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_recognised_by_its_file_names(name, tmp_path):
    root = write_files(tmp_path / "somewhere", NAMES[name])
    found = find_corpus(str(root))
    assert (found.adapter_name, found.root) == (name, root)
    assert len(found.read_manifest()[0]) == 1


def test_a_relative_path_becomes_absolute(tmp_path):
    write_files(tmp_path / "here", NAMES["emodb"])
    assert find_corpus("here").root == tmp_path / "here"


def test_as_name_selects_the_adapter(tmp_path):
    root = write_files(tmp_path / "spoken", NAMES["ravdess"])
    manifest = find_corpus(str(root), as_name="demo").read_manifest()[0]
    assert list(manifest.column("corpus")) == ["demo"]


def test_one_misnamed_file_does_not_hide_the_corpus_and_is_named(tmp_path):
    root = write_files(tmp_path / "spoken", "03a01Fa.wav", "03a01Nc.wav", "notes.wav")
    with pytest.raises(CorpusError, match=r"notes\.wav.*no EmoDB name"):
        find_corpus(str(root)).read_manifest()


def test_an_unknown_name_is_refused_naming_the_valid_ones(speech):
    with pytest.raises(UnknownChoice, match=f"'emo-db'; choose from: {', '.join(CORPORA)}, or an existing folder"):
        find_corpus("emo-db")
    with pytest.raises(UnknownChoice, match=f"'emo-db'; choose from: {', '.join(CORPORA)}"):
        find_corpus("emodb", as_name="emo-db")


def test_of_many_misnamed_files_five_are_named_and_the_others_counted(tmp_path):
    root = write_files(tmp_path / "spoken", *(f"notes{n}.wav" for n in range(7)))
    with pytest.raises(
        CorpusError, match=r"notes0\.wav.*notes4\.wav[^;]*; and 2 more, see: ser corpora doctor .*spoken$"
    ):
        find_corpus(str(root), as_name="emodb").read_manifest()


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"holds no audio \(.*.aiff, .*.flac, .m4a, .*.wav, .webm"):
        find_corpus(str(write_files(tmp_path / "empty")))


def test_an_empty_folder_is_refused_under_its_name_too(speech):
    write_files(speech / "emodb", "README.md")
    with pytest.raises(CorpusError, match="holds no audio"):
        find_corpus("emodb").read_manifest()


def test_file_names_of_no_corpus_are_refused_with_a_hint_to_as(tmp_path):
    with pytest.raises(CorpusError, match="'take1' fit no corpus, .*--as demo"):
        find_corpus(str(write_files(tmp_path / "spoken", "take1.wav")))


def test_a_file_is_no_corpus(tmp_path):
    (tmp_path / "clip.wav").touch()
    with pytest.raises(CorpusError, match="is a file"):
        find_corpus(str(tmp_path / "clip.wav"))


def test_a_corpus_that_is_not_on_this_computer_is_refused(monkeypatch, speech):
    with pytest.raises(CorpusError, match=r"no folder emodb or emodb-\* under SER_CORPORA"):
        find_corpus("emodb")
    monkeypatch.delenv("SER_CORPORA")
    with pytest.raises(UserError, match="set SER_CORPORA"):
        find_corpus("emodb")


# Reading a request


@pytest.fixture
def english_and_german(speech):
    """SAVEE and EmoDB under `SER_CORPORA`: three clips and two."""
    write_files(speech / "savee" / "DC", "a01.wav", "n01.wav", "su01.wav")
    write_files(speech / "emodb", "03a01Wa.wav", "03a01La.wav")
    return speech


def test_one_corpus_keeps_its_ids(english_and_german):
    gathered = read_requested_speech(CorpusRequest("emodb"))
    assert (gathered.name, list(gathered.manifest.column("id")), gathered.notes) == (
        "emodb",
        ["03a01La", "03a01Wa"],
        (),
    )


def test_joined_corpora_have_separate_speakers_and_ids_with_the_corpus(english_and_german):
    gathered = read_requested_speech(CorpusRequest("savee+emodb"))
    assert gathered.name == "savee+emodb"
    assert list(gathered.manifest.column("id")) == [
        "savee/DC_a01",
        "savee/DC_n01",
        "savee/DC_su01",
        "emodb/03a01La",
        "emodb/03a01Wa",
    ]
    assert gathered.manifest.speakers == ("emodb-03", "savee-DC")
    assert gathered.manifest.corpora == ("emodb", "savee")


def test_equal_speaker_numbers_in_two_corpora_are_two_speakers(speech):
    write_files(speech / "ravdess", "03-01-05-01-01-01-03.wav")
    write_files(speech / "emodb", "03a01Wa.wav")
    assert read_requested_speech(CorpusRequest("ravdess+emodb")).manifest.speakers == ("emodb-03", "ravdess-03")


def test_an_actor_of_speech_and_song_is_one_speaker(speech):
    write_files(speech / "ravdess", "03-01-05-01-01-01-03.wav")
    write_files(speech / "ravdess-song", "03-02-05-01-01-01-03.wav")
    gathered = read_requested_speech(CorpusRequest("ravdess+ravdess_song"))
    assert (len(gathered.manifest), gathered.manifest.speakers) == (2, ("ravdess-03",))


def test_paths_can_be_joined_too(english_and_german):
    gathered = read_requested_speech(CorpusRequest(f"{english_and_german / 'savee'}+{english_and_german / 'emodb'}"))
    assert (gathered.name, len(gathered.manifest)) == ("savee+emodb", 5)


def test_a_folder_with_a_plus_in_its_name_is_one_corpus(tmp_path):
    root = write_files(tmp_path / "old+new", "03a01Wa.wav")
    assert read_requested_speech(CorpusRequest(str(root))).name == "emodb"


@pytest.mark.parametrize("corpus", ["emodb+emodb", "emodb+{speech}/emodb"])
def test_the_same_corpus_twice_is_refused(corpus, english_and_german):
    with pytest.raises(UserError, match="names a corpus twice"):
        read_requested_speech(CorpusRequest(corpus.format(speech=english_and_german)))


def test_an_unknown_corpus_of_a_join_is_named(english_and_german):
    with pytest.raises(UnknownChoice, match="unknown corpus 'emo-db'"):
        read_requested_speech(CorpusRequest("savee+emo-db"))


def test_label_rules_merge_and_drop_emotions_and_note_it(english_and_german):
    gathered = read_requested_speech(CorpusRequest("savee+emodb", labels="4, surprise -> happiness"))
    assert gathered.manifest.labels == ("neutral", "happiness", "anger")
    assert gathered.notes == (
        "labels '4, surprise -> happiness': no clip of sadness",
        "labels '4, surprise -> happiness': surprise counts as happiness, boredom dropped (clips: 1)",
    )


def test_shared_labels_are_those_of_every_corpus(english_and_german):
    gathered = read_requested_speech(CorpusRequest("savee+emodb", labels="shared"))
    assert (gathered.manifest.labels, len(gathered.manifest)) == (("anger",), 2)
    assert gathered.notes == (
        "labels 'shared': neutral dropped (clips: 1), surprise dropped (clips: 1), boredom dropped (clips: 1)",
    )


def test_label_rules_that_leave_no_clip_are_refused(english_and_german):
    with pytest.raises(CorpusError, match="no clip is left of anger, boredom after the rules for labels"):
        read_requested_speech(CorpusRequest("emodb", labels="drop anger, drop boredom"))


def test_excluded_files_are_counted_by_reason(speech):
    write_files(speech / "tess", "OAF_back_angry.wav", "YAF_back_angry.wav")
    write_files(speech / "tess" / "tess", "OAF_back_angry.wav", "YAF_back_angry.wav")
    write_files(speech / "ravdess", "03-01-05-01-01-01-03.wav", "03-02-05-01-01-01-03.wav")
    gathered = read_requested_speech(CorpusRequest("tess+ravdess"))
    assert gathered.notes == ("tess: left out second copy (files: 2)", "ravdess: left out song (files: 1)")
    assert len(gathered.manifest) == 3


def test_a_corpus_with_only_excluded_files_is_refused_with_the_reason(speech):
    write_files(speech / "ravdess", "03-02-05-01-01-01-03.wav")
    with pytest.raises(CorpusError, match=r"holds no audio of ravdess \(.*\); left out: song \(files: 1\)"):
        read_requested_speech(CorpusRequest("ravdess"))


def test_speakers_can_be_read_from_the_path(speech):
    write_files(speech / "own" / "anna" / "anger", "1.wav")
    write_files(speech / "own" / "bert" / "joy", "1.wav")
    gathered = read_requested_speech(CorpusRequest("own", speaker_from=r"^([^/]+)/"))
    assert list(gathered.manifest.column("speaker")) == ["folder-own-anna", "folder-own-bert"]


def test_speakers_that_a_corpus_names_are_not_replaced(speech):
    write_files(speech / "emodb", "03a01Wa.wav")
    with pytest.raises(UserError, match=r"03a01Wa\.wav is by emodb-03"):
        read_requested_speech(CorpusRequest("emodb", speaker_from=r"(\w\d\d)[A-Z]"))


def test_of_several_corpora_the_speaker_pattern_applies_to_folders_only(speech):
    write_files(speech / "own" / "anna" / "anger", "1.wav")
    write_files(speech / "emodb", "03a01Wa.wav")
    gathered = read_requested_speech(CorpusRequest("own+emodb", speaker_from=r"^([^/]+)/"))
    assert gathered.manifest.speakers == ("emodb-03", "folder-own-anna")


@pytest.mark.parametrize(("one", "other"), [("anna", "Anna"), ("1", "01")])
def test_two_spellings_of_a_speaker_are_refused(one, other, speech):
    write_files(speech / "own" / one / "anger", "1.wav")
    write_files(speech / "own" / other / "joy", "1.wav")
    with pytest.raises(CorpusError, match="folder-own-.* and .*folder-own-.* seem to be one"):
        read_requested_speech(CorpusRequest("own", speaker_from=r"^([^/]+)/"))


def test_clips_with_different_emotions_in_folder_and_name_are_refused(tmp_path):
    root = write_files(tmp_path / "mine" / "sad", NAMES["emodb"]).parent
    with pytest.raises(
        CorpusError, match="of its emodb name is happiness, of its folder sadness; choose one with --as emodb"
    ):
        find_corpus(str(root))
    assert find_corpus(str(root), as_name="folder").read_manifest()[0].labels == ("sadness",)


def test_a_table_in_the_folder_takes_precedence_over_file_names(tmp_path):
    root = write_files(tmp_path / "mine", NAMES["emodb"])
    (root / "metadata.csv").write_text(f"file_name,emotion\n{NAMES['emodb']},sad\n")
    assert find_corpus(str(root)).read_manifest()[0].labels == ("sadness",)


def test_columns_without_a_table_are_refused(speech):
    write_files(speech / "emodb", NAMES["emodb"])
    write_files(speech / "tess", "OAF_back_angry.wav")
    with pytest.raises(UserError, match="has no table whose columns could be mapped"):
        read_requested_speech(CorpusRequest("emodb+tess", columns={"emotion": "label"}))


def test_folders_that_are_links_are_followed_but_not_in_circles(tmp_path):
    elsewhere = write_files(tmp_path / "elsewhere", NAMES["emodb"])
    root = tmp_path / "corpus"
    root.mkdir()
    (root / "linked").symlink_to(elsewhere)
    assert len(find_corpus(str(root)).read_manifest()[0]) == 1
    (root / "round").symlink_to(root)
    with pytest.raises(CorpusError, match="links form a circle"):
        find_corpus(str(root))


def test_a_path_without_a_speaker_is_a_misfit(speech):
    write_files(speech / "own" / "anger", "1.wav")
    with pytest.raises(CorpusError, match=r"1\.wav: --speaker-from '\^\(\[b\]\+\)/' finds no speaker"):
        read_requested_speech(CorpusRequest("own", speaker_from="^([b]+)/"))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(a", "'\\(a' is not a regular expression"),
        ("a+", "'a\\+' must have one group"),
        ("(a)(b)", "must have one group"),
    ],
)
def test_a_pattern_that_cannot_name_speakers_is_refused(pattern, message, english_and_german):
    with pytest.raises(UserError, match=f"--speaker-from {message}" if "'" in message else message):
        read_requested_speech(CorpusRequest("emodb", speaker_from=pattern))


def test_a_file_name_that_is_not_utf8_is_refused_by_name(tmp_path):
    root = write_files(tmp_path / "spoken", NAMES["emodb"], "03a01Nc.wav")
    broken = os.fsencode(root) + b"/03a01W\xffa.wav"
    try:
        open(broken, "wb").close()  # noqa: PTH123 - bytes
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(CorpusError, match="03a01W.a.wav: its name is not UTF-8"):
        find_corpus(str(root)).read_manifest()


def test_a_folder_of_recordings_of_a_phone_is_recognised(tmp_path):
    write_files(tmp_path / "mine" / "happy", "anna_01.m4a")
    write_files(tmp_path / "mine" / "sad", "anna_02.webm")
    assert find_corpus(str(tmp_path / "mine")).adapter_name == "folder"


def test_a_folder_of_videos_is_recognised(tmp_path, ffmpeg):
    root = write_files(tmp_path / "friends" / "train_splits", "dia0_utt0.mp4", "dia0_utt1.mp4").parent
    assert find_corpus(str(root)).adapter_name == "meld"
