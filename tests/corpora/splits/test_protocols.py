"""Each protocol splits as described, refuses corpora that do not fit it, and stamps leaks."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ser_platform.corpora.manifest import Manifest, Utterance, speaker_name
from ser_platform.corpora.splits.protocols import PROTOCOLS, make_splits, parse_named_corpora
from ser_platform.corpora.splits.split import combine_protocol_stamps
from ser_platform.errors import CorpusError, UnknownChoice, UserError

EMOTIONS = ("neutral", "anger", "sadness")


def make_clips(speaker: str, emotions=EMOTIONS, corpus: str = "made", takes: int = 2, **more) -> list[Utterance]:
    """Return clips of one speaker: every emotion, `takes` times; a speaker with an odd last letter is male."""
    return [
        Utterance(
            id=f"{speaker}-{emotion}-{take}",
            path=Path(f"/speech/{speaker}/{emotion}-{take}.wav"),
            corpus=corpus,
            speaker=speaker_name(corpus, speaker),
            emotion=emotion,
            sex="male" if ord(speaker[-1]) % 2 else "female",
            audio_sha256=f"digest of {corpus} {speaker} {emotion} {take}",
            **more,
        )
        for emotion in emotions
        for take in range(takes)
    ]


def corpus(n_speakers: int, name: str = "made", emotions=EMOTIONS) -> Manifest:
    return Manifest.from_utterances(u for n in range(n_speakers) for u in make_clips(f"{n:02}", emotions, name))


def make_unknown_speakers(n_clips: int = 30) -> Manifest:
    """Return a corpus without speakers."""
    return Manifest.from_utterances(
        Utterance(str(n), Path(f"{n}.wav"), "made", speaker_name("made", None), EMOTIONS[n % 3], audio_sha256=f"d{n}")
        for n in range(n_clips)
    )


def write_table(path: Path, rows: list[dict[str, str]]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return f"fixed:{path}"


def parts_of(split) -> dict[str, set[str]]:
    return {part: set(split.speakers(part)) for part in ("train", "dev", "test")}


@pytest.fixture
def folds_of_five(tmp_path):
    """Five folds over ten speakers, as a CSV of test folds."""
    manifest = corpus(10)
    rows = [{"path": str(u.path), "test_fold": str(int(u.speaker[-2:]) % 5)} for u in manifest]
    return manifest, write_table(tmp_path / "five.csv", rows)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("protocol", ["speaker", "loso", "speaker_kfold:5", "fixed"])
def test_no_speaker_is_in_two_parts_of_any_fold(protocol, seed, folds_of_five):
    manifest, fixed = folds_of_five
    for split in make_splits(manifest, fixed if protocol == "fixed" else protocol, seed):
        parts = parts_of(split)
        assert not parts["train"] & parts["dev"] | parts["train"] & parts["test"] | parts["dev"] & parts["test"]
        assert sorted(np.concatenate(list(split.parts.values()))) == list(range(len(manifest)))
        assert split.leaks == ()
        assert set(manifest.column("emotion")[split.train]) == set(EMOTIONS)


@pytest.mark.parametrize("protocol", ["loso", "speaker_kfold:5", "speaker_kfold:3", "fixed"])
def test_every_clip_is_tested_in_one_fold(protocol, folds_of_five):
    manifest, fixed = folds_of_five
    splits = make_splits(manifest, fixed if protocol == "fixed" else protocol)
    tested = np.concatenate([split.test for split in splits])
    assert sorted(tested) == list(range(len(manifest)))
    assert [split.fold for split in splits] == [f"{n}/{len(splits)}" for n in range(1, len(splits) + 1)]


def test_leave_one_speaker_out_tests_one_speaker_a_fold():
    splits = make_splits(corpus(6), "loso")
    assert [split.speakers("test") for split in splits] == [(f"made-{n:02}",) for n in range(6)]


def test_folds_of_speakers_have_both_sexes():
    for split in make_splits(corpus(12), "speaker_kfold:4"):
        assert set(split.manifest.column("sex")[split.test]) == {"male", "female"}


@pytest.mark.parametrize("protocol", ["loso", "speaker_kfold:3"])
def test_dev_is_two_other_speakers_of_both_sexes(protocol):
    for split in make_splits(corpus(9), protocol):
        assert len(split.speakers("dev")) == 2
        assert set(split.manifest.column("sex")[split.dev]) == {"male", "female"}


def test_dev_speakers_are_chosen_to_cover_every_emotion():
    partial = [u for n in range(6) for u in make_clips(f"{n:02}", EMOTIONS[:1] if n in (0, 1) else EMOTIONS)]
    for split in make_splits(Manifest.from_utterances(partial), "loso"):
        assert set(split.manifest.column("emotion")[split.dev]) == set(EMOTIONS)


def test_dev_leaves_every_emotion_in_train():
    # Only 02 and 03, one of each sex, have sadness.
    partial = [u for n in range(6) for u in make_clips(f"{n:02}", EMOTIONS if n in (2, 3) else EMOTIONS[:2])]
    for split in make_splits(Manifest.from_utterances(partial), "loso"):
        assert "sadness" in split.manifest.column("emotion")[split.train]


@pytest.mark.parametrize("argument", ["", "1", "7", "x"])
def test_folds_must_fit_the_speakers(argument):
    with pytest.raises(UserError, match="speaker_kfold needs the number of folds, from 2 to 6"):
        make_splits(corpus(6), f"speaker_kfold:{argument}" if argument else "speaker_kfold")


def test_an_argument_in_parentheses_is_read_too():
    assert len(make_splits(corpus(6), "speaker_kfold(3)")) == 3


def test_an_unknown_protocol_is_refused_with_the_valid_ones():
    with pytest.raises(UnknownChoice, match="unknown protocol 'kfold'; choose from: speaker, loso, speaker_kfold:K"):
        make_splits(corpus(6), "kfold")
    with pytest.raises(UserError, match="'loso' takes no argument; got '3'"):
        make_splits(corpus(6), "loso:3")


def test_the_split_depends_on_the_seed():
    prints = [make_splits(corpus(12), "speaker_kfold:3", seed)[0].fingerprint for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_a_fixed_table_may_name_train_dev_and_test(tmp_path):
    manifest = corpus(6)
    where = {"00": "test", "01": "dev"}
    rows = [{"id": u.id, "split": where.get(u.speaker[-2:], "train")} for u in manifest]
    (split,) = make_splits(manifest, write_table(tmp_path / "mine.csv", rows))
    assert parts_of(split)["test"] == {"made-00"} and parts_of(split)["dev"] == {"made-01"}
    assert split.protocol_stamp == "fixed:mine.csv"


def test_a_fixed_table_without_dev_gets_dev_speakers(tmp_path):
    manifest = corpus(6)
    rows = [{"id": u.id, "split": "test" if u.speaker.endswith("00") else "train"} for u in manifest]
    (split,) = make_splits(manifest, write_table(tmp_path / "mine.csv", rows))
    assert split.speakers("test") == ("made-00",) and len(split.speakers("dev")) == 2


def test_a_fixed_table_matches_clips_in_another_folder_and_format(folds_of_five, tmp_path):
    manifest, _ = folds_of_five
    rows = [
        {"path": f"corpora/x/{u.path.parent.name}/{u.path.stem}.flac", "test_fold": u.speaker[-1]} for u in manifest
    ]
    assert len(make_splits(manifest, write_table(tmp_path / "moved.csv", rows))) == 10


def test_a_fixed_table_may_list_more_clips_than_the_manifest(folds_of_five):
    manifest, fixed = folds_of_five
    fewer = manifest.relabel({"neutral": "neutral", "anger": "anger", "sadness": None})
    assert len(make_splits(fewer, fixed)) == 5


def test_a_fixed_table_with_a_speaker_in_two_parts_is_refused_by_name(tmp_path):
    manifest = corpus(6)
    rows = [{"id": u.id, "split": {"0": "train", "1": "test"}[u.id[-1]]} for u in manifest]
    rows[0]["split"] = "dev"
    protocol = write_table(tmp_path / "leaky.csv", rows)
    with pytest.raises(CorpusError, match="speakers in both train and test: made-01|in both train and dev: made-00"):
        make_splits(manifest, protocol)
    (allowed,) = make_splits(manifest, protocol, allow_leaky_split=True)
    assert allowed.protocol_stamp == "fixed:leaky.csv (speakers overlap)"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"clip": "1", "split": "train"}], "needs id or path and split or test_fold, one of each"),
        ([{"id": "elsewhere", "test_fold": "0"}], "36 clips are not in it, like 00-neutral-0"),
    ],
)
def test_a_fixed_table_that_does_not_fit_is_refused(rows, message, tmp_path):
    with pytest.raises(UserError, match=message):
        make_splits(corpus(6), write_table(tmp_path / "bad.csv", rows))


def test_a_fixed_table_with_other_words_for_the_parts_is_refused(tmp_path):
    manifest = corpus(6)
    rows = [{"id": u.id, "split": "eval"} for u in manifest]
    with pytest.raises(CorpusError, match="has eval; it must be train, dev, test"):
        make_splits(manifest, write_table(tmp_path / "bad.csv", rows))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,test_fold\n{rows}", "does not fit the corpus: 35 clips are not in it"),
        ("id,test_fold\n{rows}00-neutral-0,1\n", "has 00-neutral-0 twice in column 'id'"),
        ("id,test_fold\n00-neutral-0\n", "row 1 does not have 2 cells"),
        ("id,test_fold\n00-neutral-0,1,2\n", "row 1 does not have 2 cells"),
        ("id,test_fold\n00-neutral-0,\n", "row 1 has no test_fold"),
        ("id,test_fold,test_fold\n", "the column 'test_fold' occurs twice"),
        ("id,path,test_fold\n", "it needs id or path and split or test_fold, one of each"),
        ("id,test_fold\n\xff\n", "cannot be read"),
    ],
)
def test_an_invalid_fixed_table_is_refused_with_the_reason(text, message, tmp_path):
    (tmp_path / "bad.csv").write_bytes(text.replace("{rows}", "00-neutral-0,0\n").encode("latin-1"))
    with pytest.raises(UserError, match=message):
        make_splits(corpus(6), f"fixed:{tmp_path / 'bad.csv'}")


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(UserError, match="needs a table"):
        make_splits(corpus(6), f"fixed:{tmp_path / 'none.csv'}")


def make_official_corpus(overlap: bool) -> Manifest:
    parts = {"00": "test", "01": "dev"}
    rows = [u for n in range(4) for u in make_clips(f"{n:02}", part=parts.get(f"{n:02}", "train"))]
    if overlap:
        rows += make_clips("02", part="test", takes=3)[2::3]
    return Manifest.from_utterances(rows)


def test_the_official_split_is_the_publishers():
    (split,) = make_splits(make_official_corpus(overlap=False), "official")
    assert parts_of(split) == {"train": {"made-02", "made-03"}, "dev": {"made-01"}, "test": {"made-00"}}
    assert split.protocol_stamp == "official"


def test_overlapping_speakers_of_an_official_split_are_stamped():
    (split,) = make_splits(make_official_corpus(overlap=True), "official")
    assert split.protocol_stamp == "official (speakers overlap)"


def test_a_corpus_without_an_official_split_is_refused():
    with pytest.raises(CorpusError, match="made has no official train, dev and test"):
        make_splits(corpus(6), "official")


def test_a_random_split_is_refused_unless_it_is_allowed():
    with pytest.raises(UserError, match="--allow-leaky-split"):
        make_splits(corpus(6), "random")


def test_a_random_split_is_stamped_and_spreads_every_emotion():
    (split,) = make_splits(corpus(12), "random", allow_leaky_split=True)
    assert split.protocol_stamp == "random (speakers overlap)"
    for part in ("dev", "test"):
        assert Counter(split.manifest.column("emotion")[split.parts[part]]) == dict.fromkeys(EMOTIONS, 4)  # 24 / 6


def test_a_random_split_keeps_the_same_audio_together():
    manifest = corpus(12)
    digests = np.array(["one", "two"], dtype=object)[np.arange(len(manifest)) % 2]
    by_emotion = digests + manifest.column("emotion")
    (split,) = make_splits(manifest.with_column("audio_sha256", by_emotion), "random", allow_leaky_split=True)
    assert "clips overlap" not in split.leaks


@pytest.mark.parametrize("protocol", ["speaker", "loso", "speaker_kfold:2"])
def test_a_corpus_without_speakers_is_refused_with_hints(protocol):
    with pytest.raises(CorpusError, match="needs speakers; made has none.*--speaker-from.*--speaker-column.*random"):
        make_splits(make_unknown_speakers(), protocol)


def test_a_leaky_split_of_unknown_speakers_is_stamped():
    (split,) = make_splits(make_unknown_speakers(), "random", allow_leaky_split=True)
    assert split.protocol_stamp == "random (speakers unknown)"


def two_corpora() -> Manifest:
    return Manifest.join([corpus(6, "first"), corpus(4, "second", EMOTIONS[:2])])


def test_cross_corpus_tests_one_corpus_and_takes_dev_from_the_other():
    (split,) = make_splits(two_corpora(), "cross_corpus:train=first,test=second")
    assert set(split.manifest.column("corpus")[split.test]) == {"second"}
    assert set(split.manifest.column("corpus")[np.concatenate([split.train, split.dev])]) == {"first"}
    assert len(split.speakers("dev")) == 2
    assert split.missing_emotions == ["test has no sadness"]
    assert split.protocol_stamp == "cross_corpus:train=first,test=second"


def test_cross_corpus_refuses_an_emotion_without_training_clips():
    with pytest.raises(CorpusError, match="sadness occurs in first but not in second.*--labels shared"):
        make_splits(two_corpora(), "cross_corpus:train=second,test=first")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("train=first", "cross_corpus needs names of corpora, like cross_corpus:train=A,test=B"),
        ("train=first,test=third", "names 'third', but --corpus is first, second; give --corpus first.third"),
        ("xx,train=first,test=second", "needs names of corpora"),
    ],
)
def test_cross_corpus_needs_two_corpora_of_the_manifest(argument, message):
    with pytest.raises(UserError, match=message):
        make_splits(two_corpora(), f"cross_corpus:{argument}")


def test_the_corpora_of_cross_corpus_are_parsed():
    assert parse_named_corpora("cross_corpus:train=ravdess,test=emodb") == "ravdess+emodb"
    assert parse_named_corpora("cross_corpus(train=ravdess+tess,test=emodb)") == "ravdess+tess+emodb"
    assert parse_named_corpora("loso") is None


def test_a_corpus_has_the_same_test_speakers_alone_and_beside_others():
    alone = make_splits(corpus(6, "first"), "speaker", 3)[0].speakers("test")
    (together,) = make_splits(two_corpora(), "speaker", 3)
    assert tuple(s for s in together.speakers("test") if s.startswith("first")) == alone
    assert any(s.startswith("second") for s in together.speakers("test"))


def test_a_corpus_of_two_speakers_only_trains():
    (split,) = make_splits(Manifest.join([corpus(6, "first"), corpus(2, "second")]), "speaker")
    assert {"second-00", "second-01"} <= set(split.speakers("train"))


def test_corpora_that_share_speakers_are_split_as_one():
    speech = corpus(8, "first")
    song = [
        Utterance(f"song-{u.id}", u.path, "song", u.speaker, u.emotion, sex=u.sex, audio_sha256=f"song {u.id}")
        for u in speech
    ]
    (split,) = make_splits(Manifest.join([speech, Manifest.from_utterances(song)]), "speaker")
    assert split.leaks == ()
    assert set(split.manifest.column("corpus")[split.test]) == {"first", "song"}


def test_the_summary_of_a_split_has_a_row_per_part():
    (split,) = make_splits(corpus(6), "speaker")
    train, dev, test = split.summarise()
    assert [part["part"] for part in (train, dev, test)] == ["train", "dev", "test"]
    assert train["clips"] + dev["clips"] + test["clips"] == 36
    assert train["emotions"] == {"neutral": 4, "sadness": 4, "anger": 4}
    assert train["minutes"] is None  # no audio was read


def test_every_protocol_is_tested_here():
    assert set(PROTOCOLS) == {"speaker", "loso", "speaker_kfold", "official", "fixed", "cross_corpus", "random"}


def test_the_same_audio_under_two_speakers_is_refused_even_within_a_part():
    manifest = corpus(6)
    digests = manifest.column("audio_sha256").copy()
    train = make_splits(manifest, "speaker")[0].speakers("train")
    first, second = (np.flatnonzero(manifest.column("speaker") == speaker)[0] for speaker in train)
    digests[second] = digests[first]
    doubled = manifest.with_column("audio_sha256", digests)
    with pytest.raises(CorpusError, match=r"the same audio under two speakers in 2 clips: .*\(made-0\d\)"):
        make_splits(doubled, "speaker")


def test_the_stamp_of_several_folds_has_the_leaks_of_all(tmp_path):
    manifest = corpus(6)
    rows = [{"id": u.id, "test_fold": str(n % 3)} for n, u in enumerate(manifest)]
    protocol = write_table(tmp_path / "leaky.csv", rows)
    splits = make_splits(manifest, protocol, allow_leaky_split=True)
    assert combine_protocol_stamps(splits) == "fixed:leaky.csv, 3 folds (speakers overlap)"
    assert combine_protocol_stamps(splits[:1]) == "fixed:leaky.csv fold 1/3 (speakers overlap)"
    assert combine_protocol_stamps(make_splits(manifest, "loso")) == "loso, 6 folds"


def test_cross_corpus_refuses_a_corpus_on_neither_side():
    three = Manifest.join([corpus(6, "first"), corpus(4, "second"), corpus(4, "third")])
    with pytest.raises(UserError, match="has third on neither side"):
        make_splits(three, "cross_corpus:train=first,test=second")
