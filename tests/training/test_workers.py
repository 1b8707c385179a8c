"""Two workers have the same batches, gradients, losses and metrics as one worker."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ser_platform.corpora.splits.split import split_by_speaker
from ser_platform.models import build_model
from ser_platform.settings import resolve
from ser_platform.training.workers import SINGLE_WORKER, distribute_clips, min_clips_per_pass, sum_gradients

# No dropout, and no statistics of a batch: what is left is the same on one worker and on two, up to rounding.
PLAIN = {
    "model.name": "bilstm",
    "model.hidden_size": 8,
    "model.subsample": 4,
    "model.dropout": 0,
    "data.max_seconds": 0.5,
    "train.epochs": 3,
    "train.batch_size": 7,
    "train.max_norm": 1e6,
    "distill.alpha": 0.0,
}
RUNS = {
    "class weights, an odd last batch": {},
    "no class weights": {"train.class_weights": False, "train.label_smoothing": 0.0},
    "mixup and masks": {"augment.mixup": 0.4, "augment.masks": 2, "augment.crop": 0.7},
    "a teacher and mixup": {"augment.mixup": 0.4, "distill.alpha": 0.6},
    "chunks": {"features.chunk": 20, "features.chunk_hop": 10},
    "parts": {"train.accumulate": 2, "train.batch_size": 12, "train.epochs": 5},
    "batches too small for two": {"train.batch_size": 1, "train.epochs": 1},
    "samples with noise": {
        "model.name": "lite_cnn",
        "model.width": 4,
        "model.norm": "layer",
        "augment.noise_snr_db": 10.0,
        "augment.time_shift_s": 0.05,
        "data.max_seconds": 0.2,
    },
}
OTHERS = {
    "batch statistics": {"model.name": "cnn_bilstm", "model.width": 4, "model.dropout": 0.3},
    "batch statistics of few": {"model.name": "cnn_bilstm", "model.width": 4, "train.batch_size": 2, "train.epochs": 1},
    "no memory on the second": {"train.auto_batch": True, "train.batch_size": 12, "memory": [10_000, 3]},
}


@pytest.fixture(scope="module")
def records(_tones_prepared, tmp_path_factory) -> list[dict[str, dict]]:
    """The records of each of two processes, by the name of the run."""
    home, manifest = _tones_prepared
    folder = tmp_path_factory.mktemp("workers")
    split = split_by_speaker(manifest, seed=0)
    targets = manifest.encode_targets(manifest.labels)
    train = split.train[(targets[split.train] > 0) | (np.arange(len(split.train)) % 3 == 0)]  # classes of unlike size
    arrays = {
        "hashes": np.array(list(manifest.column("audio_sha256")), dtype=str),
        "targets": targets,
        "labels": np.array(manifest.labels),
        "train": train[: len(train) - 1 + len(train) % 2],
        "dev": split.dev,
        "teacher": np.random.default_rng(0).normal(0, 2, (len(targets), 3)).astype(np.float32),
    }
    np.savez(folder / "data.npz", **arrays)
    (folder / "runs.json").write_text(json.dumps({name: PLAIN | run for name, run in (RUNS | OTHERS).items()}))
    script = Path(__file__).with_name("one_of_two_workers.py")
    environment = os.environ | {"SER_HOME": str(home), "OMP_NUM_THREADS": "1"}
    commands = [[sys.executable, script, str(rank), folder] for rank in range(2)]
    workers = [subprocess.Popen(command, env=environment) for command in commands]
    try:
        assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    return [json.loads((folder / f"records-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("run", RUNS)
def test_the_gradient_of_the_first_step_is_that_of_one_worker(run, records):
    together, alone = (np.array(records[0][run][how]["gradient"]) for how in ("together", "alone"))
    assert np.abs(alone).max() > 1e-3
    np.testing.assert_allclose(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("run", RUNS)
def test_the_first_five_losses_are_those_of_one_worker(run, records):
    together, alone = (records[0][run][how]["losses"] for how in ("together", "alone"))
    assert len(together) == len(alone) >= 5
    np.testing.assert_allclose(together[:5], alone[:5], atol=1e-4, rtol=0)


@pytest.mark.parametrize("run", RUNS)
def test_the_results_of_epochs_are_those_of_one_worker(run, records):
    together, alone = (records[0][run][how] for how in ("together", "alone"))
    np.testing.assert_allclose(together["train_loss"], alone["train_loss"], atol=1e-3)
    np.testing.assert_allclose(together["logits"], alone["logits"], atol=1e-2)


@pytest.mark.parametrize("run", RUNS | OTHERS)
def test_all_workers_have_the_same_weights_and_figures(run, records):
    first, second = (record[run]["together"] for record in records)
    for name in ("gradient", "losses", "dev_uar", "train_loss", "logits", "weights", "accumulate"):
        assert first[name] == second[name], name


@pytest.mark.parametrize("run", RUNS | OTHERS)
def test_two_workers_resume_from_the_first_workers_checkpoint(run, records):
    for record in records:
        assert record[run]["resumed"] == record[run]["together"]["weights"]


def test_all_workers_use_the_parts_that_one_worker_needs(records):
    # Batches of up to 12 clips are 6 a worker, of which the second has room for 3.
    assert [record["no memory on the second"]["together"]["accumulate"] for record in records] == [2, 2]


@pytest.mark.parametrize("n_clips", [0, 1, 2, 3, 7, 32, 33])
@pytest.mark.parametrize("n_shares", [1, 2, 3, 8])
@pytest.mark.parametrize("least", [1, 2])
def test_shares_contain_every_clip_once_and_enough_clips(n_clips, n_shares, least):
    shares = distribute_clips(np.random.default_rng(0).integers(50, 300, n_clips), n_shares, least)
    assert len(shares) == n_shares
    assert sorted(np.concatenate(shares)) == list(range(n_clips))
    assert all(len(share) >= min(least, n_clips) for share in shares if len(share))


@pytest.mark.parametrize(("name", "least"), [("bilstm", 1), ("cnn_bilstm", 2)])
def test_batch_normalisation_is_never_given_a_single_clip(name, least):
    assert min_clips_per_pass(build_model(resolve({"model.name": name}), 20, 3)) == least


def test_shares_are_similar_in_clips_frames_and_longest_clip():
    lengths = np.random.default_rng(1).integers(100, 300, 64)
    shares = [lengths[share] for share in distribute_clips(lengths, 4)]
    assert [len(share) for share in shares] == [16] * 4
    assert max(map(sum, shares)) / min(map(sum, shares)) < 1.02
    assert max(map(max, shares)) / min(map(max, shares)) < 1.05


class EqualWorkers:
    """A group of two workers with equal values."""

    rank, size = 0, 2

    def sum(self, values):
        return 2 * values


def test_a_parameter_without_gradients_on_all_workers_keeps_none():
    used, unused, frozen = (nn.Parameter(torch.ones(3)) for _ in range(3))
    frozen.requires_grad_(False)
    used.grad = torch.tensor([1.0, 2.0, 3.0])
    sum_gradients([used, unused, frozen], EqualWorkers())
    assert used.grad.tolist() == [2, 4, 6]
    assert unused.grad is None and frozen.grad is None


def test_a_worker_alone_keeps_its_gradients_as_they_are():
    parameter = nn.Parameter(torch.ones(3))
    parameter.grad = kept = torch.ones(3)
    sum_gradients([parameter], SINGLE_WORKER)
    assert parameter.grad is kept
