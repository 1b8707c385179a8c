"""From a request to prepared clips and their splits."""

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.errors import CorpusError, UserError
from ser_platform.features.dataset import DataRequest, prepare_dataset
from ser_platform.progress import Display


@pytest.fixture
def output():
    """A display and the text that it prints."""
    text = io.StringIO()
    return Display(Console(file=text, width=200)), text


def request(corpus: Path, labels: str = "as_labelled", **more) -> DataRequest:
    return DataRequest(CorpusRequest(str(corpus), labels=labels), **more)


def test_a_request_survives_json(tone_corpus):
    written = DataRequest(CorpusRequest(str(tone_corpus), columns={"emotion": "label"}), protocol="loso", fold=2)
    assert DataRequest.from_json(written.as_json()) == written


def test_label_rules_select_the_clips(tone_corpus, output):
    dataset = prepare_dataset(request(tone_corpus, "drop happiness"), output[0])
    assert dataset.labels == ("neutral", "anger")
    assert len(dataset.manifest) == 36
    assert "happiness dropped (clips: 18)" in output[1].getvalue()


def test_speech_of_one_emotion_is_refused(tone_corpus, output):
    with pytest.raises(UserError, match=r"ravdess has one emotion \(anger\): at least two are needed"):
        prepare_dataset(request(tone_corpus, "drop happiness, drop neutral"), output[0])


def test_other_rules_and_protocols_decode_nothing_again(tone_corpus, output):
    prepare_dataset(request(tone_corpus), output[0])
    output[1].truncate(0)
    prepare_dataset(request(tone_corpus, "drop happiness", protocol="loso"), output[0])
    assert "0 files decoded" in output[1].getvalue()


def test_a_fold_is_chosen_by_number(tone_corpus, output):
    dataset = prepare_dataset(request(tone_corpus, protocol="loso", fold=2), output[0])
    assert dataset.split.fold == "2/6"
    assert len(prepare_dataset(request(tone_corpus, protocol="loso"), output[0]).splits) == 6
    with pytest.raises(UserError, match="--fold 7: protocol 'loso' makes folds 1 to 6"):
        prepare_dataset(request(tone_corpus, protocol="loso", fold=7), output[0])


def test_several_folds_are_refused_before_decoding_where_one_is_required(tone_corpus, output):
    with pytest.raises(UserError, match="makes 6 folds; choose one with --fold"):
        prepare_dataset(request(tone_corpus, protocol="loso"), output[0], require_one_split=True)
    assert "decoded" not in output[1].getvalue()


def test_the_same_audio_under_two_speakers_is_refused_by_name(tone_corpus, tmp_path, output):
    copy = shutil.copytree(tone_corpus, tmp_path / "copied")
    first = sorted(copy.rglob("*.wav"))[0]
    for speaker in ("02", "03", "04", "05", "06"):
        shutil.copy(first, copy / f"Actor_{speaker}" / first.name.replace("-01.wav", f"-{speaker}.wav"))
    with pytest.raises(CorpusError, match="the same audio in both (train|dev) and (dev|test)"):
        prepare_dataset(request(copy), output[0])


def test_a_protocol_may_name_its_corpora(output, monkeypatch):
    with pytest.raises(UserError, match="no corpus is given"):
        prepare_dataset(DataRequest(CorpusRequest("")), output[0])
    monkeypatch.delenv("SER_CORPORA", raising=False)
    with pytest.raises(UserError, match="emodb is not on this computer"):
        prepare_dataset(DataRequest(CorpusRequest(""), protocol="cross_corpus:train=emodb,test=ravdess"), output[0])


def test_empty_bands_of_a_corpus_are_noted(tone_corpus, output):
    prepare_dataset(request(tone_corpus), output[0], names=["vector184"])
    assert "note: ravdess: " in output[1].getvalue() and "8000" in output[1].getvalue().replace(",", "").replace(
        " ", ""
    )
    output[1].truncate(0)
    prepare_dataset(request(tone_corpus), output[0], names=["log_mel"])
    assert "note" not in output[1].getvalue()
