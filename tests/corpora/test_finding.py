"""A corpus is found by name under SER_CORPORA, or by path and the grammar of its file names."""

import pytest

from ser_platform.corpora.finding import find_corpus, located
from ser_platform.errors import CorpusError, UnknownChoice, UserError

NAMES = {"ravdess": "03-01-06-01-02-01-12.wav", "emodb": "03a01Fa.wav"}


@pytest.fixture
def speech(tmp_path, monkeypatch):
    """A folder of corpora that `SER_CORPORA` names."""
    root = tmp_path / "speech"
    root.mkdir()
    monkeypatch.setenv("SER_CORPORA", str(root))
    return root


def filled(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_a_name_is_looked_up_under_ser_corpora(speech):
    filled(speech / "emodb", NAMES["emodb"])
    found = find_corpus("emodb")
    assert (found.name, found.root) == ("emodb", speech / "emodb")


def test_a_name_may_go_on_after_a_hyphen(speech):
    filled(speech / "ravdess-speech")
    assert find_corpus("ravdess").root == speech / "ravdess-speech"


def test_the_plain_name_goes_first(speech):
    filled(speech / "ravdess-speech")
    filled(speech / "ravdess")
    assert located("ravdess") == speech / "ravdess"


def test_another_corpus_that_begins_alike_is_not_taken(speech):
    filled(speech / "emodb2")
    assert located("emodb") is None


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_recognised_by_its_file_names(name, tmp_path):
    root = filled(tmp_path / "somewhere", NAMES[name])
    found = find_corpus(str(root))
    assert (found.name, found.root) == (name, root)
    assert len(found.manifest()) == 1


def test_a_relative_path_becomes_absolute(tmp_path):
    filled(tmp_path / "here", NAMES["emodb"])
    assert find_corpus("here").root == tmp_path / "here"


def test_the_user_may_say_which_corpus_it_is(tmp_path):
    root = filled(tmp_path / "spoken", NAMES["ravdess"])
    manifest = find_corpus(str(root), as_name="demo").manifest()
    assert list(manifest.column("corpus")) == ["demo"]


def test_one_odd_file_does_not_hide_the_corpus_and_is_named(tmp_path):
    root = filled(tmp_path / "spoken", "03a01Fa.wav", "03a01Nc.wav", "notes.wav")
    with pytest.raises(CorpusError, match=r"notes\.wav.*no EmoDB name"):
        find_corpus(str(root)).manifest()


def test_an_unknown_name_is_refused_naming_the_valid_ones(speech):
    with pytest.raises(UnknownChoice, match="'emo-db'; choose from: demo, ravdess, emodb"):
        find_corpus("emo-db")
    with pytest.raises(UnknownChoice, match="'emo-db'; choose from: demo, ravdess, emodb"):
        find_corpus("emodb", as_name="emo-db")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"holds no audio \(.flac, .mp3, .ogg, .wav\)"):
        find_corpus(str(filled(tmp_path / "empty")))


def test_an_empty_folder_is_refused_under_its_name_too(speech):
    filled(speech / "emodb", "README.md")
    with pytest.raises(CorpusError, match="holds no audio"):
        find_corpus("emodb").manifest()


def test_names_of_no_corpus_are_refused_with_the_way_out(tmp_path):
    with pytest.raises(CorpusError, match="'take1' fit no corpus; .*--as"):
        find_corpus(str(filled(tmp_path / "spoken", "take1.wav")))


def test_a_file_is_no_corpus(tmp_path):
    (tmp_path / "clip.wav").touch()
    with pytest.raises(CorpusError, match="is a file"):
        find_corpus(str(tmp_path / "clip.wav"))


def test_a_name_needs_a_place_to_look_it_up(monkeypatch, speech):
    with pytest.raises(CorpusError, match=r"no folder emodb or emodb-\* under SER_CORPORA"):
        find_corpus("emodb")
    monkeypatch.delenv("SER_CORPORA")
    with pytest.raises(UserError, match="set SER_CORPORA"):
        find_corpus("emodb")
