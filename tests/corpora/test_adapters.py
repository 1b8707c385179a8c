"""Contract of every corpus adapter, and the grammar of each."""

import pytest

from ser_platform.corpora import CORPORA, emodb, ravdess
from ser_platform.emotions import EMOTIONS
from ser_platform.errors import CorpusError

# A clip of each corpus, and what its name says.
EXAMPLES = {
    "demo": ("03-01-05-02-01-02-11", "anger", "demo-11", "male"),
    "ravdess": ("03-01-06-01-02-01-12", "fear", "ravdess-12", "female"),
    "emodb": ("03a01Fa", "happiness", "emodb-03", "male"),
}


def test_every_corpus_has_an_example():
    assert EXAMPLES.keys() == CORPORA.keys()


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_states_its_facts(name):
    corpus = CORPORA[name]
    assert corpus.CLIPS > corpus.SPEAKERS > 2
    assert set(corpus.EMOTIONS.values()) <= set(EMOTIONS)
    assert corpus.__doc__


@pytest.mark.parametrize("name", CORPORA)
def test_a_file_name_says_who_and_what(name, tmp_path):
    stem, emotion, speaker, sex = EXAMPLES[name]
    (tmp_path / "deep" / "down").mkdir(parents=True)
    path = tmp_path / "deep" / "down" / f"{stem}.WAV"
    path.touch()
    (found,) = CORPORA[name].utterances(tmp_path)
    assert (found.id, found.path, found.corpus) == (stem, path, name)
    assert (found.emotion, found.speaker, found.sex) == (emotion, speaker, sex)


@pytest.mark.parametrize("name", CORPORA)
def test_files_that_are_no_audio_do_not_matter(name, tmp_path):
    (tmp_path / "README.md").touch()
    assert list(CORPORA[name].utterances(tmp_path)) == []


@pytest.mark.parametrize("name", CORPORA)
def test_a_name_outside_the_grammar_is_refused_by_file(name, tmp_path):
    (tmp_path / "hello.wav").touch()
    with pytest.raises(CorpusError, match=r"hello\.wav: 'hello' is no"):
        list(CORPORA[name].utterances(tmp_path))
    assert not CORPORA[name].recognises("hello")


@pytest.mark.parametrize("name", CORPORA)
def test_utterances_are_ordered_by_path(name, tmp_path):
    stem = EXAMPLES[name][0]
    for folder in ("b", "a", "c"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{stem}.wav").touch()
    assert [u.path.parent.name for u in CORPORA[name].utterances(tmp_path)] == ["a", "b", "c"]


@pytest.mark.parametrize("code", ravdess.EMOTIONS)
def test_ravdess_names_its_emotion_third(code, tmp_path):
    (tmp_path / f"03-01-{code}-02-01-02-07.flac").touch()
    (found,) = ravdess.utterances(tmp_path)
    assert found.emotion == ravdess.EMOTIONS[code]
    assert (found.intensity, found.sentence, found.repetition, found.sex) == ("strong", "01", "02", "male")


def test_ravdess_song_is_left_out(tmp_path):
    (tmp_path / "03-02-03-01-01-01-01.wav").touch()
    (tmp_path / "03-01-03-01-01-01-01.wav").touch()
    assert [u.id for u in ravdess.utterances(tmp_path)] == ["03-01-03-01-01-01-01"]


@pytest.mark.parametrize("letter", emodb.EMOTIONS)
def test_emodb_names_its_emotion_by_a_german_letter(letter, tmp_path):
    (tmp_path / f"16b10{letter}c.wav").touch()
    (found,) = emodb.utterances(tmp_path)
    assert (found.emotion, found.sentence, found.repetition) == (emodb.EMOTIONS[letter], "b10", "c")
    assert (found.speaker, found.sex, found.language) == ("emodb-16", "female", "de")


@pytest.mark.parametrize(
    ("corpus", "stem", "message"),
    [
        (ravdess, "03-01-09-01-01-01-01", "unknown emotion '09'; valid are 01, 02, 03, 04, 05, 06, 07, 08"),
        (ravdess, "03-01-03-03-01-01-01", "unknown intensity '03'; valid are 01, 02"),
        (emodb, "03a01Xa", "unknown emotion 'X'; valid are W, L, E, A, F, T, N"),
        (emodb, "04a01Fa", "unknown speaker '04'; valid are 03, 08, 09"),
    ],
)
def test_an_unknown_code_is_refused_naming_file_and_valid_ones(corpus, stem, message, tmp_path):
    (tmp_path / f"{stem}.wav").touch()
    with pytest.raises(CorpusError, match=rf"{stem}\.wav: {message}"):
        list(corpus.utterances(tmp_path))
