"""Extraction on a cluster of two nodes, and the feature families that a study can need."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ser_platform.encoders import resolve_pinned_name
from ser_platform.features.store.extraction import map_on_this_machine
from ser_platform.tuning.execution.remote_extraction import choose_mapper, map_on_cluster
from ser_platform.tuning.search_space.requirements import list_needed_families
from ser_platform.tuning.search_space.space import Space
from ser_platform.tuning.search_space.yaml_file import read_space
from tests.tuning.nodes import free_ports, ray_node

ROOT = Path(__file__).resolve().parents[3]
BASELINE = {"log_mel", "mfcc", "zcr", "rms"}
ON_CLUSTER = """
import json, sys
from pathlib import Path
import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from ser_platform.corpora.corpus_lookup import FoundCorpus
from ser_platform.features.store import extraction
from ser_platform.features.store.feature_store import prepare_features
from ser_platform.features.views.viewed_clips import StoredViewedClips
from ser_platform.settings import resolve
from ser_platform.tuning.execution import remote_extraction as on_ray
from ser_platform.tuning.execution.cluster import connect_cluster
from ser_platform.training.configuration import feature_view

extraction.CLIPS_PER_JOB = 6
marks = Path(sys.argv[2])
extract = extraction.extract

def extract_and_mark(job):
    (marks / ray.get_runtime_context().get_node_id()).touch()
    return extract(job)

on_ray.extract = extract_and_mark
manifest = FoundCorpus("ravdess", Path(sys.argv[1])).read_manifest()[0]
manifest = prepare_features(manifest, ["log_mel"], mapper=on_ray.choose_mapper()).manifest

def trial(hashes, settings):
    # Like a trial before its first step: read the statistics of all clips, and a batch.
    features, rows = StoredViewedClips(feature_view(settings), hashes), np.arange(len(hashes))
    batch, lengths = features.batch(rows, features.fit_normaliser(rows))
    return [float(np.abs(batch).sum()), int(lengths.sum())]

settings, hashes = resolve({"model.name": "bilstm"}), tuple(manifest.column("audio_sha256"))
with connect_cluster() as where:
    read = {}
    for node in ray.nodes():
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        placed = ray.remote(num_cpus=1, scheduling_strategy=place)(trial)
        read[node["NodeID"]] = ray.get(placed.remote(hashes, settings))
print(json.dumps({"slots": where.slots, "extracted_on": [path.name for path in marks.iterdir()], "read": read}))
"""
LOCAL = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of processes on a cluster of two nodes on this machine that share a store."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    environment = os.environ | LOCAL | {"PYTHONPATH": str(ROOT), "SER_HOME": str(tmp_path / "shared")}
    environment.pop("RAY_ADDRESS", None)
    head = ["--head", "--port", str(port), "--include-dashboard", "false"]
    with (
        ray_node(tmp_path, environment, "--num-cpus", "1", *head, port=port),
        ray_node(tmp_path, environment, "--num-cpus", "1", "--address", address),
    ):
        yield environment | {"RAY_ADDRESS": address}


def space(tmp_path: Path, text: str) -> Space:
    path = tmp_path / "mine.yaml"
    path.write_text(f"role: student\n{text}")
    return read_space(path)


def list_families(tmp_path: Path, text: str) -> set[str]:
    return set(list_needed_families([space(tmp_path, text)]))


def test_a_study_needs_the_families_of_its_baseline(tmp_path):
    assert list_families(tmp_path, "base: {model.name: bilstm}") == BASELINE


def test_a_model_on_waveforms_needs_them_and_no_feature_sets(tmp_path):
    assert list_families(tmp_path, "base: {model.name: lite_cnn, features.sets: [f0]}") == BASELINE | {"waveform"}


def test_a_study_needs_the_sets_of_its_base_and_its_axes(tmp_path):
    both = "space: {model.name: {choice: [bilstm, lite_cnn]}, features.sets: {subset: [zcr, f0], min: 1}}"
    assert list_families(tmp_path, both) == BASELINE | {"waveform", "f0"}


def test_the_base_value_of_a_conditional_axis_is_needed_too(tmp_path):
    text = (
        "base: {features.sets: [chroma]}\n"
        "space:\n  model.name: {choice: [bilstm, cnn_bilstm]}\n"
        "  features.sets: {choice: [f0, zcr], when: {model.name: bilstm}}\n"
    )
    assert list_families(tmp_path, text) == BASELINE | {"chroma", "f0"}


ENCODERS = (
    "space:\n  model.name: {choice: [bilstm, pretrained]}\n"
    "  model.backbone: {choice: [tiny-whisper, tiny-wavlm], when: {model.name: pretrained}}\n"
)


def test_an_axis_of_encoders_does_not_need_the_default_encoder(tmp_path, pretrained):
    searched = space(tmp_path, f"base: {{features.sets: [f0]}}\n{ENCODERS}")
    encoded = {f"{resolve_pinned_name(name)}.statistics" for name in ("tiny-whisper", "tiny-wavlm")}
    assert set(list_needed_families([searched])) == BASELINE | encoded | {"f0"}
    assert searched.fixed_settings.data.labels == "as_labelled"


def test_an_axis_under_a_parent_without_influence_on_the_inputs_is_conditional_too(tmp_path):
    text = (
        "base: {features.sets: [chroma]}\n"
        "space:\n  train.sampling: {choice: [natural, balanced]}\n"
        "  features.sets: {choice: [f0, zcr], when: {train.sampling: balanced}}\n"
    )
    assert list_families(tmp_path, text) == BASELINE | {"chroma", "f0"}


def test_several_spaces_share_one_extraction(tmp_path):
    spaces = [space(tmp_path, f"base: {{model.name: bilstm, features.sets: [{name}]}}") for name in ("f0", "chroma")]
    assert set(list_needed_families(spaces)) == BASELINE | {"f0", "chroma"}


def test_the_cluster_extracts_if_one_is_set(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert choose_mapper() is map_on_this_machine
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert choose_mapper() is map_on_cluster


@pytest.mark.ray
def test_two_nodes_extract_into_one_store_and_a_trial_on_each_reads_it(two_nodes, tone_corpus, tmp_path):
    (tmp_path / "marks").mkdir()
    script = tmp_path / "on_cluster.py"
    script.write_text(ON_CLUSTER)
    command = [sys.executable, str(script), str(tone_corpus), str(tmp_path / "marks")]
    done = subprocess.run(command, env=two_nodes, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    content = json.loads(done.stdout.strip().splitlines()[-1])
    assert content["slots"] == 2
    assert len(content["extracted_on"]) == 2
    assert set(content["read"]) == set(content["extracted_on"])
    first, second = content["read"].values()
    assert first == second
    (folder,) = (tmp_path / "shared" / "features").glob("log_mel-*")
    assert len(list(folder.glob("*.json"))) == 1
