"""Every file is decoded once, every family computed once; what is read back is what was computed."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_platform.corpora.audio import read_audio
from ser_platform.corpora.finding import FoundCorpus
from ser_platform.corpora.manifest import Manifest, Utterance
from ser_platform.errors import CorpusError, WorkFailed
from ser_platform.features import FEATURE_SETS, store
from ser_platform.features.families import compute, family_key
from ser_platform.features.store import families_folder, open_family, prepare, verify
from ser_platform.features.view import FeatureView
from ser_platform.features.viewed import ViewedFeatures

VIEW = FeatureView(("log_mel", "mfcc", "zcr", "rms"), n_mfcc=13, max_seconds=0.6, crop="centre")


def manifest_of(root: Path) -> Manifest:
    return FoundCorpus("ravdess", root).manifest()


def hashes_of(manifest: Manifest) -> tuple[str, ...]:
    return tuple(manifest.column("audio_sha256"))


def shards_of(name: str, suffix: str) -> list[Path]:
    return sorted((families_folder() / family_key(name, FEATURE_SETS[name])).glob(f"*{suffix}"))


def test_each_file_is_extracted_once(few_tones):
    assert prepare(manifest_of(few_tones)).extracted == 9
    assert prepare(manifest_of(few_tones)).extracted == 0


def test_an_unchanged_file_is_not_even_opened(few_tones, monkeypatch):
    first = prepare(manifest_of(few_tones)).manifest
    monkeypatch.setattr(store, "read_audio", None)
    assert prepare(manifest_of(few_tones)).manifest.table == first.table


def test_only_the_file_that_was_touched_is_decoded_again(few_tones):
    first = prepare(manifest_of(few_tones)).manifest
    touched = next(iter(first)).path
    os.utime(touched, ns=(1, 1))
    again = prepare(manifest_of(few_tones))
    assert again.extracted == 1
    assert again.manifest.table == first.table


def test_a_file_with_other_samples_gets_another_digest(few_tones, tone):
    before = prepare(manifest_of(few_tones)).manifest
    changed = next(iter(before)).path
    soundfile.write(changed, tone(440.0, 0.7), 16_000)
    after = prepare(manifest_of(few_tones)).manifest
    different = [a != b for a, b in zip(hashes_of(before), hashes_of(after), strict=True)]
    assert different == [True] + [False] * 8


def test_durations_are_those_of_the_audio(few_tones):
    for utterance in prepare(manifest_of(few_tones)).manifest:
        assert utterance.duration_s == soundfile.info(utterance.path).duration


def test_bad_files_are_set_aside_with_their_reason(few_tones):
    good = prepare(manifest_of(few_tones)).manifest
    bad = next(iter(good)).path
    bad.write_bytes(b"not audio at all")
    prepared = prepare(manifest_of(few_tones), max_bad=0.2)
    assert [refusal.path for refusal in prepared.set_aside] == [str(bad)]
    assert "cannot be decoded" in prepared.set_aside[0].reason
    assert list(prepared.manifest.column("id")) == list(good.column("id"))[1:]


def test_a_file_that_vanished_is_set_aside(few_tones):
    manifest = manifest_of(few_tones)
    prepare(manifest)
    gone = next(iter(manifest)).path
    gone.unlink()
    prepared = prepare(manifest, max_bad=0.2)
    assert [refusal.reason for refusal in prepared.set_aside] == ["no such file"]


def test_more_bad_files_than_allowed_are_refused_by_name(few_tones):
    bad = [utterance.path for utterance in manifest_of(few_tones)][:2]
    for path in bad:
        path.write_bytes(b"")
    with pytest.raises(CorpusError, match="2 of 9 files") as refusal:
        prepare(manifest_of(few_tones), max_bad=0.2)
    assert str(bad[0]) in str(refusal.value) and str(bad[1]) in str(refusal.value)


def test_refused_work_is_not_lost(few_tones):
    bad = next(iter(manifest_of(few_tones))).path
    whole = bad.read_bytes()
    bad.write_bytes(b"")
    with pytest.raises(CorpusError, match="1 of 9 files"):
        prepare(manifest_of(few_tones))
    bad.write_bytes(whole)
    assert prepare(manifest_of(few_tones)).extracted == 1


def test_progress_ends_at_what_there_was_to_do(few_tones):
    told = []
    prepare(manifest_of(few_tones), progress=lambda done, of: told.append((done, of)))
    assert told == [(9, 9)]


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_what_is_stored_is_what_was_computed(name, tones):
    family = open_family(name, hashes_of(tones))
    for number, utterance in list(enumerate(tones))[::5]:
        computed = compute(read_audio(utterance.path), [name], FEATURE_SETS)[name]
        np.testing.assert_array_equal(family.clip(number), computed)
        assert family.lengths[number] == len(computed)


def test_clips_are_numbered_in_the_order_asked_for(tones):
    hashes = hashes_of(tones)
    forwards, backwards = open_family("rms", hashes), open_family("rms", hashes[::-1])
    np.testing.assert_array_equal(forwards.clip(0), backwards.clip(len(hashes) - 1))


@pytest.mark.parametrize("sets", [("log_mel",), ("zcr", "rms"), ("log_mel", "mfcc", "zcr", "rms"), ("waveform",)])
def test_the_normaliser_is_the_mean_and_deviation_of_the_training_frames(sets, tones):
    train = np.arange(0, len(tones), 2)
    view = FeatureView(sets, n_mfcc=13, max_seconds=60.0, crop="head")
    normaliser = ViewedFeatures(view, hashes_of(tones)).normaliser(train)
    frames = np.concatenate([view.of_audio(read_audio(u.path)) for u in tones.take(train)]).astype(np.float64)
    np.testing.assert_allclose(normaliser.mean, frames.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(normaliser.std, frames.std(axis=0), rtol=1e-4)


@pytest.mark.parametrize("crop", ["head", "centre"])
@pytest.mark.parametrize("sets", [("log_mel", "mfcc", "zcr", "rms"), ("waveform",)])
def test_training_and_prediction_see_the_same_features(sets, crop, tones):
    view = FeatureView(sets, n_mfcc=20, max_seconds=0.6, crop=crop)
    features = ViewedFeatures(view, hashes_of(tones))
    normaliser = features.normaliser(np.arange(len(tones)))
    clips = np.array([3, 50, 17])
    batch, lengths = features.batch(clips, normaliser)
    for row, utterance in enumerate(tones.take(clips)):
        predicted_on = normaliser(view.of_audio(read_audio(utterance.path)))
        np.testing.assert_allclose(batch[row, : lengths[row]], predicted_on, atol=1e-5)
        assert not batch[row, lengths[row] :].any()


def test_another_view_extracts_nothing_even_without_the_audio(tones, tone_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "read_audio", None)
    monkeypatch.setattr(store, "compute", None)
    moved = shutil.move(tone_corpus, tmp_path / "moved")
    try:
        widths = []
        for sets, n_mfcc, seconds in [(("log_mel",), 20, 0.5), (("mfcc",), 13, 0.5), (("mfcc", "rms"), 40, 1.0)]:
            features = ViewedFeatures(FeatureView(sets, n_mfcc, seconds, "centre"), hashes_of(tones))
            normaliser = features.normaliser(np.arange(10))
            widths.append(features.batch(np.arange(4), normaliser)[0].shape[1:])
    finally:
        shutil.move(moved, tone_corpus)
    assert [width for _, width in widths] == [64, 13, 41]
    assert widths[0][0] == 50


def test_a_flipped_byte_is_found_and_mended(few_tones):
    manifest = prepare(manifest_of(few_tones)).manifest
    verify(hashes_of(manifest), FEATURE_SETS)
    shard = shards_of("mfcc", ".npy")[0]
    shard = shard if ".sums" not in shard.name else shards_of("mfcc", ".npy")[1]
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    with pytest.raises(WorkFailed, match="damaged"):
        verify(hashes_of(manifest), FEATURE_SETS)
    assert prepare(manifest_of(few_tones)).extracted == 9
    verify(hashes_of(manifest), FEATURE_SETS)


def test_a_shard_without_its_data_is_found(few_tones):
    manifest = prepare(manifest_of(few_tones)).manifest
    for data in shards_of("zcr", ".npy"):
        data.unlink()
    with pytest.raises(WorkFailed, match="damaged"):
        verify(hashes_of(manifest), ["zcr"])


def test_a_kill_between_two_families_is_mended_by_extracting_again(few_tones):
    manifest = prepare(manifest_of(few_tones)).manifest
    shards_of("rms", ".json")[0].unlink()
    with pytest.raises(WorkFailed, match="9 clips have no stored rms"):
        open_family("rms", hashes_of(manifest))
    assert prepare(manifest_of(few_tones)).extracted == 9
    assert len(open_family("rms", hashes_of(manifest)).lengths) == 9


def test_a_kill_costs_one_shard(few_tones, monkeypatch):
    monkeypatch.setattr(store, "SHARD_CLIPS", 4)
    monkeypatch.setattr(store, "INDEX_EVERY_S", 0.0)
    monkeypatch.setattr(store, "INDEX_SHARE", 1e9)  # written after each shard
    extract, calls = store.extract_shard, []

    def killed_in_the_third(clips, folder):
        calls.append(len(clips))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return extract(clips, folder)

    monkeypatch.setattr(store, "extract_shard", killed_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        prepare(manifest_of(few_tones))
    assert prepare(manifest_of(few_tones)).extracted == 1


@pytest.mark.slow
def test_several_processes_store_what_one_stores(few_tones, tmp_path, monkeypatch):
    alone = prepare(manifest_of(few_tones))
    features = [open_family("log_mel", hashes_of(alone.manifest)).clip(n).copy() for n in range(9)]
    monkeypatch.setenv("SER_HOME", str(tmp_path / "other-home"))
    monkeypatch.setattr(store, "POOL_PAYS_FROM", 1)
    monkeypatch.setattr(store, "SHARD_CLIPS", 3)
    monkeypatch.setattr(store, "slots", lambda: 2)
    open_family.cache_clear()
    (few_tones / "Actor_01" / "03-01-01-01-09-01-01.wav").write_bytes(b"no audio")
    together = prepare(manifest_of(few_tones), max_bad=0.2)
    assert list(together.manifest) == list(alone.manifest)
    assert [Path(bad.path).stem for bad in together.set_aside] == ["03-01-01-01-09-01-01"]
    for number, values in enumerate(features):
        np.testing.assert_array_equal(open_family("log_mel", hashes_of(together.manifest)).clip(number), values)


def test_other_choices_of_clips_from_a_folder_are_known(few_tones):
    manifest = manifest_of(few_tones)
    assert prepare(manifest.take(np.array([0, 3, 5]))).extracted == 3
    assert prepare(manifest).extracted == 6
    assert prepare(manifest.take(np.array([8, 1]))).extracted == 0


def test_a_torn_shard_is_as_good_as_absent(few_tones):
    """The JSON is written last: data without it are not read."""
    prepare(manifest_of(few_tones))
    folder = families_folder() / family_key("rms", FEATURE_SETS["rms"])
    np.save(folder / "torn.npy", np.zeros((3, 1), np.float32))
    assert prepare(manifest_of(few_tones)).extracted == 0


def test_segments_of_one_file_are_clips_of_their_own(tmp_path, tone):
    path = tmp_path / "dialogue.wav"
    soundfile.write(path, np.concatenate([tone(200.0, 1.0), tone(900.0, 1.0)]), 16_000)
    manifest = Manifest.from_utterances(
        Utterance(f"part-{n}", path, "made", "made-1", "neutral", start_s=float(n), end_s=n + 1.0) for n in range(2)
    )
    prepared = prepare(manifest).manifest
    assert list(prepared.column("duration_s")) == [1.0, 1.0]
    zcr = open_family("zcr", hashes_of(prepared))
    assert np.median(zcr.clip(0)) < np.median(zcr.clip(1))


def test_the_address_of_a_family_changes_with_its_fields_and_its_version(monkeypatch):
    from ser_platform.features.families import LogMel

    key = family_key("log_mel", LogMel())
    assert family_key("log_mel", LogMel()) == key
    assert family_key("log_mel", LogMel(n_mels=40)) != key
    monkeypatch.setattr(LogMel, "version", LogMel.version + 1)
    assert family_key("log_mel", LogMel()) != key


def test_the_index_is_plain_json(few_tones):
    prepare(manifest_of(few_tones))
    (index,) = (families_folder().parent / "index").glob("*.json")
    assert len(json.loads(index.read_text())) == 9


def test_all_damaged_shards_are_dropped_at_once_and_extracted_again(few_tones, tmp_path):
    manifest = FoundCorpus("ravdess", few_tones).manifest()
    hashes = prepare(manifest).manifest.column("audio_sha256")
    for path in (tmp_path / "ser-home" / "features").rglob("*.npy"):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WorkFailed, match="dropped"):
        verify(hashes, FEATURE_SETS)
    assert prepare(manifest).extracted == 9
    verify(hashes, FEATURE_SETS)


def test_a_damaged_index_is_decoded_again(few_tones, tmp_path):
    manifest = FoundCorpus("ravdess", few_tones).manifest()
    prepare(manifest)
    for path in (tmp_path / "ser-home" / "index").glob("*.json"):
        path.write_text('{"half')
    assert prepare(manifest).extracted == 9
