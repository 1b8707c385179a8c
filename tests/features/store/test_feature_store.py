"""Every file is decoded once and every family computed once; stored features equal the computed ones."""

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from ser_platform.corpora.audio.reader import read_audio
from ser_platform.corpora.corpus_lookup import FoundCorpus
from ser_platform.corpora.manifest import Manifest, Utterance
from ser_platform.errors import CorpusError, UserError, WorkFailed
from ser_platform.features.dataset import DEFAULT_FEATURE_SETS
from ser_platform.features.families import FAMILIES
from ser_platform.features.families.computation import compute_features, family_cache_key
from ser_platform.features.store import extraction
from ser_platform.features.store.extraction import ExtractionJob, ExtractionResult, extract, make_local_mapper
from ser_platform.features.store.feature_store import open_family, prepare_features
from ser_platform.features.store.folders import families_folder, family_folder
from ser_platform.features.store.shard import StoredClip
from ser_platform.features.views.view import FeatureView
from ser_platform.features.views.viewed_clips import StoredViewedClips


def manifest_of(root: Path) -> Manifest:
    return FoundCorpus("ravdess", root).read_manifest()[0]


def stored_families() -> set[str]:
    return {path.name.split("-")[0] for path in families_folder().iterdir() if path.name[0] != "."}


def hashes_of(manifest: Manifest) -> tuple[str, ...]:
    return tuple(manifest.column("audio_sha256"))


def test_each_file_is_extracted_once(few_tones):
    assert prepare_features(manifest_of(few_tones), DEFAULT_FEATURE_SETS).n_decoded == 9
    assert prepare_features(manifest_of(few_tones), DEFAULT_FEATURE_SETS).n_decoded == 0


def test_an_unchanged_file_is_not_opened(few_tones, monkeypatch):
    first = prepare_features(manifest_of(few_tones), DEFAULT_FEATURE_SETS).manifest
    monkeypatch.setattr(extraction, "read_audio", None)
    assert prepare_features(manifest_of(few_tones), DEFAULT_FEATURE_SETS).manifest.table == first.table


def test_only_a_touched_file_is_decoded_again(few_tones):
    first = prepare_features(manifest_of(few_tones), DEFAULT_FEATURE_SETS).manifest
    touched = next(iter(first)).path
    os.utime(touched, ns=(1, 1))
    again = prepare_features(manifest_of(few_tones), DEFAULT_FEATURE_SETS)
    assert again.n_decoded == 1
    assert again.manifest.table == first.table


def test_a_file_with_other_samples_gets_another_digest(few_tones, tone):
    before = prepare_features(manifest_of(few_tones), DEFAULT_FEATURE_SETS).manifest
    changed = next(iter(before)).path
    soundfile.write(changed, tone(440.0, 0.7), 16_000)
    after = prepare_features(manifest_of(few_tones), DEFAULT_FEATURE_SETS).manifest
    different = [a != b for a, b in zip(hashes_of(before), hashes_of(after), strict=True)]
    assert different == [True] + [False] * 8


def test_durations_are_those_of_the_audio(few_tones):
    for utterance in prepare_features(manifest_of(few_tones), DEFAULT_FEATURE_SETS).manifest:
        assert utterance.duration_s == soundfile.info(utterance.path).duration


def test_unusable_files_are_left_out_with_their_reason(few_tones):
    good = prepare_features(manifest_of(few_tones), DEFAULT_FEATURE_SETS).manifest
    bad = next(iter(good)).path
    bad.write_bytes(b"not audio at all")
    prepared = prepare_features(manifest_of(few_tones), DEFAULT_FEATURE_SETS, max_bad=0.2)
    assert [refusal.path for refusal in prepared.unusable] == [str(bad)]
    assert "cannot be decoded" in prepared.unusable[0].reason
    assert list(prepared.manifest.column("id")) == list(good.column("id"))[1:]


def test_a_missing_file_is_left_out(few_tones):
    manifest = manifest_of(few_tones)
    prepare_features(manifest, DEFAULT_FEATURE_SETS)
    gone = next(iter(manifest)).path
    gone.unlink()
    prepared = prepare_features(manifest, DEFAULT_FEATURE_SETS, max_bad=0.2)
    assert [refusal.reason for refusal in prepared.unusable] == ["no such file"]


def test_more_bad_files_than_allowed_are_refused_by_name(few_tones):
    bad = [utterance.path for utterance in manifest_of(few_tones)][:2]
    for path in bad:
        path.write_bytes(b"")
    with pytest.raises(CorpusError, match="2 of 9 files") as refusal:
        prepare_features(manifest_of(few_tones), DEFAULT_FEATURE_SETS, max_bad=0.2)
    assert str(bad[0]) in str(refusal.value) and str(bad[1]) in str(refusal.value)


def test_features_extracted_before_a_refusal_are_kept(few_tones):
    bad = next(iter(manifest_of(few_tones))).path
    whole = bad.read_bytes()
    bad.write_bytes(b"")
    with pytest.raises(CorpusError, match="1 of 9 files"):
        prepare_features(manifest_of(few_tones), DEFAULT_FEATURE_SETS)
    bad.write_bytes(whole)
    assert prepare_features(manifest_of(few_tones), DEFAULT_FEATURE_SETS).n_decoded == 1


def test_progress_ends_at_the_number_of_files(few_tones):
    reports = []
    prepare_features(manifest_of(few_tones), DEFAULT_FEATURE_SETS, progress=lambda done, of: reports.append((done, of)))
    assert reports == [(9, 9)]


@pytest.mark.parametrize("name", DEFAULT_FEATURE_SETS)
def test_stored_features_equal_the_computed_ones(name, tones):
    family = open_family(name, hashes_of(tones))
    for number, utterance in list(enumerate(tones))[::5]:
        computed = compute_features(read_audio(utterance.path), [name], FAMILIES)[name]
        np.testing.assert_array_equal(family.read_clip(number), computed)
        assert family.lengths[number] == len(computed)


def test_clips_are_numbered_in_the_given_order(tones):
    hashes = hashes_of(tones)
    forwards, backwards = open_family("rms", hashes), open_family("rms", hashes[::-1])
    np.testing.assert_array_equal(forwards.read_clip(0), backwards.read_clip(len(hashes) - 1))


def test_another_view_extracts_nothing_even_without_the_audio(tones, tone_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "read_audio", None)
    monkeypatch.setattr(extraction, "compute_features", None)
    moved = shutil.move(tone_corpus, tmp_path / "moved")
    try:
        widths = []
        for sets, n_mfcc, seconds in [(("log_mel",), 20, 0.5), (("mfcc",), 13, 0.5), (("mfcc", "rms"), 40, 1.0)]:
            features = StoredViewedClips(FeatureView(sets, n_mfcc, seconds, "centre"), hashes_of(tones))
            normaliser = features.fit_normaliser(np.arange(10))
            widths.append(features.batch(np.arange(4), normaliser)[0].shape[1:])
    finally:
        shutil.move(moved, tone_corpus)
    assert [width for _, width in widths] == [64, 13, 41]
    assert widths[0][0] == 50


def test_only_the_requested_families_are_stored(few_tones):
    manifest = prepare_features(manifest_of(few_tones), ["zcr", "rms"]).manifest
    assert stored_families() == {"rms", "zcr"}
    with pytest.raises(WorkFailed, match="9 clips have no stored log_mel"):
        open_family("log_mel", hashes_of(manifest))


def test_a_family_that_is_stored_is_not_computed_again_beside_another(few_tones, monkeypatch):
    prepare_features(manifest_of(few_tones), ["rms"])
    computed = []
    monkeypatch.setattr(
        extraction,
        "compute_features",
        lambda audio, names, families: computed.extend(names) or compute_features(audio, names, families),
    )
    assert prepare_features(manifest_of(few_tones), ["rms", "zcr"]).n_decoded == 9
    assert computed == ["zcr"] * 9


def test_a_clip_is_decoded_once_for_all_its_families(few_tones, monkeypatch):
    read = []
    monkeypatch.setattr(extraction, "read_audio", lambda path, *part: read.append(path) or read_audio(path, *part))
    prepare_features(manifest_of(few_tones), DEFAULT_FEATURE_SETS)
    assert len(read) == 9


def test_the_same_audio_under_two_names_is_computed_once(few_tones, monkeypatch):
    first, second = [utterance.path for utterance in manifest_of(few_tones)][:2]
    shutil.copy(first, second)
    computed = []
    monkeypatch.setattr(
        extraction,
        "compute_features",
        lambda audio, names, families: computed.extend(names) or compute_features(audio, names, families),
    )
    prepare_features(manifest_of(few_tones), ["rms"])
    assert computed == ["rms"] * 8


def test_a_family_is_one_memory_mapped_file(few_tones, monkeypatch):
    monkeypatch.setattr(extraction, "CLIPS_PER_JOB", 2)
    manifest = prepare_features(manifest_of(few_tones), ["log_mel"]).manifest
    folder = family_folder(families_folder(), "log_mel", "float32")
    (record,) = folder.glob("*.json")
    data = np.load(record.with_suffix(".npy"), mmap_mode="r")
    family = open_family("log_mel", hashes_of(manifest))
    assert data.shape == (family.lengths.sum(), 64)
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".npy", ".npy", ".use"]


def test_few_new_clips_are_not_merged_into_a_large_shard(few_tones, tones, monkeypatch):
    manifest = manifest_of(few_tones)
    shutil.copytree(families_folder().parent, few_tones.parent / "home")
    monkeypatch.setenv("SER_HOME", str(few_tones.parent / "home"))
    for number, speaker in enumerate(["a", "b"]):
        path = few_tones / f"{speaker}.wav"
        soundfile.write(path, np.full(16_000, 0.1 + number / 10), 16_000)
        manifest = Manifest.from_utterances([Utterance(speaker, path, "made", f"made-{speaker}", "neutral")])
        prepare_features(manifest, ["rms"])
    assert len(list(family_folder(families_folder(), "rms", "float32").glob("*.json"))) == 3


def test_half_precision_is_stored_separately_and_is_close(few_tones):
    manifest = prepare_features(manifest_of(few_tones), ["log_mel"]).manifest
    prepare_features(manifest, ["log_mel"], dtype="float16")
    single, half = (open_family("log_mel", hashes_of(manifest), dtype) for dtype in ("float32", "float16"))
    assert half.read_clip(3).dtype == np.float16
    np.testing.assert_allclose(half.read_clip(3), single.read_clip(3), rtol=1e-3, atol=1e-2)
    np.testing.assert_array_equal(half.sums[3, 0], half.read_clip(3).astype(np.float64).sum(axis=0))


def test_numbers_too_large_for_half_precision_are_refused():
    with pytest.raises(WorkFailed, match="features up to 7e\\+04 do not fit float16; use float32"):
        StoredClip.from_features(b"", np.array([[7e4]], dtype=np.float32), "float16")


def test_an_unknown_family_or_dtype_is_refused_with_the_valid_ones(few_tones):
    with pytest.raises(UserError, match="'logmel'; choose from: .*log_mel"):
        prepare_features(manifest_of(few_tones), ["logmel"])
    with pytest.raises(UserError, match="'int8'; choose from: float32, float16"):
        prepare_features(manifest_of(few_tones), ["rms"], dtype="int8")


def test_a_family_with_one_row_per_clip_is_stored(few_tones, monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Peak:
        version = 1
        n_features: int = 1
        frame_s: float = math.inf

        def __call__(self, analysis):
            return torch.full((1, 1), 3.0)

    monkeypatch.setitem(FAMILIES, "peak", Peak())
    manifest = prepare_features(manifest_of(few_tones), ["peak"]).manifest
    family = open_family("peak", hashes_of(manifest))
    assert family.lengths.tolist() == [1] * 9
    np.testing.assert_array_equal(family.sums, np.full((9, 2, 1), [[3.0], [9.0]]))


def test_a_mapper_may_run_the_jobs_in_any_order(few_tones, monkeypatch):
    monkeypatch.setattr(extraction, "CLIPS_PER_JOB", 2)
    sent: list[ExtractionJob] = []

    def backwards(jobs: Sequence[ExtractionJob]) -> Iterator[ExtractionResult]:
        sent.extend(jobs)
        return (extract(job) for job in reversed(jobs))

    prepared = prepare_features(manifest_of(few_tones), ["rms"], mapper=backwards)
    assert [len(job.clips) for job in sent] == [2, 2, 2, 2, 1]
    for utterance in prepared.manifest:
        assert utterance.audio_sha256 == read_audio(utterance.path).sha256


def test_several_processes_store_the_same_as_one(few_tones, tmp_path, monkeypatch):
    alone = prepare_features(manifest_of(few_tones), ["log_mel"])
    features = [open_family("log_mel", hashes_of(alone.manifest)).read_clip(n).copy() for n in range(9)]
    monkeypatch.setenv("SER_HOME", str(tmp_path / "other-home"))
    monkeypatch.setattr(extraction, "CLIPS_PER_JOB", 3)
    open_family.cache_clear()
    (few_tones / "Actor_01" / "03-01-01-01-09-01-01.wav").write_bytes(b"no audio")
    together = prepare_features(manifest_of(few_tones), ["log_mel"], max_bad=0.2, mapper=make_local_mapper(2))
    assert list(together.manifest) == list(alone.manifest)
    assert [Path(bad.path).stem for bad in together.unusable] == ["03-01-01-01-09-01-01"]
    for number, values in enumerate(features):
        np.testing.assert_array_equal(open_family("log_mel", hashes_of(together.manifest)).read_clip(number), values)


def test_processes_are_started_when_the_work_is_long_enough(few_tones, monkeypatch):
    monkeypatch.setattr(extraction, "CLIPS_PER_JOB", 2)
    monkeypatch.setattr(extraction, "slots", lambda: 2)
    n_jobs = []
    in_processes = extraction._map_in_processes
    monkeypatch.setattr(
        extraction, "_map_in_processes", lambda jobs, n: n_jobs.append(len(jobs)) or in_processes(jobs, n)
    )
    assert prepare_features(manifest_of(few_tones), ["rms"]).n_decoded == 9
    assert n_jobs == []
    monkeypatch.setattr(extraction, "POOL_STARTS_S", 0.0)
    assert prepare_features(manifest_of(few_tones), ["zcr"]).n_decoded == 9
    assert n_jobs == [4]


def test_clips_of_a_folder_are_indexed_across_selections(few_tones):
    manifest = manifest_of(few_tones)
    assert prepare_features(manifest.take(np.array([0, 3, 5])), DEFAULT_FEATURE_SETS).n_decoded == 3
    assert prepare_features(manifest, DEFAULT_FEATURE_SETS).n_decoded == 6
    assert prepare_features(manifest.take(np.array([8, 1])), DEFAULT_FEATURE_SETS).n_decoded == 0


def test_segments_of_one_file_are_separate_clips(tmp_path, tone):
    path = tmp_path / "dialogue.wav"
    soundfile.write(path, np.concatenate([tone(200.0, 1.0), tone(900.0, 1.0)]), 16_000)
    manifest = Manifest.from_utterances(
        Utterance(f"part-{n}", path, "made", "made-1", "neutral", start_s=float(n), end_s=n + 1.0) for n in range(2)
    )
    prepared = prepare_features(manifest, DEFAULT_FEATURE_SETS).manifest
    assert list(prepared.column("duration_s")) == [1.0, 1.0]
    zcr = open_family("zcr", hashes_of(prepared))
    assert np.median(zcr.read_clip(0)) < np.median(zcr.read_clip(1))


def test_the_cache_key_of_a_family_changes_with_its_fields_and_version(monkeypatch):
    from ser_platform.features.families.spectral import LogMel

    key = family_cache_key("log_mel", LogMel())
    assert family_cache_key("log_mel", LogMel()) == key
    assert family_cache_key("log_mel", LogMel(n_mels=40)) != key
    monkeypatch.setattr(LogMel, "version", LogMel.version + 1)
    assert family_cache_key("log_mel", LogMel()) != key


def test_the_index_is_plain_json(few_tones):
    prepare_features(manifest_of(few_tones), DEFAULT_FEATURE_SETS)
    (index,) = (families_folder().parent / "index").glob("*.json")
    assert len(json.loads(index.read_text())) == 9


def test_a_damaged_index_is_decoded_again(few_tones, tmp_path):
    manifest = FoundCorpus("ravdess", few_tones).read_manifest()[0]
    prepare_features(manifest, DEFAULT_FEATURE_SETS)
    for path in (tmp_path / "ser-home" / "index").glob("*.json"):
        path.write_text('{"half')
    assert prepare_features(manifest, DEFAULT_FEATURE_SETS).n_decoded == 9
