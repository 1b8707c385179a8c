"""Teams of workers: their size, and a study whose trials are trained by them."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.errors import SearchSpaceError, UserError
from ser_platform.features.dataset import DataRequest
from ser_platform.progress import Display
from ser_platform.settings import resolve, slots
from ser_platform.tracking.mlflow_store import open_client
from ser_platform.tuning.execution import distributed_fit
from ser_platform.tuning.execution.cluster import Cluster
from ser_platform.tuning.execution.distributed_fit import (
    Team,
    count_offered_workers,
    form_team,
    form_team_sharing,
    form_trial_team,
    refuse_workers,
)
from ser_platform.tuning.execution.fit_pool import require_team_slots
from ser_platform.tuning.search_space.yaml_file import read_space
from ser_platform.workflows import tune
from ser_platform.workflows.tune_request import PlannedStudy

SMALL = resolve({})
TUNED = resolve({"model.name": "pretrained", "model.tuning": "full"})
SPACE = """
role: teacher
base: {model.name: bilstm, model.hidden_size: 8, train.epochs: 3, train.batch_size: 16, data.max_seconds: 0.5}
space:
  optimizer.lr: {choice: [1.0e-3, 2.0e-3]}
objective: [{metric: dev_uar, direction: maximize}]
budget: {trials: 2}
confirm: {trials: 1, seeds: 1}
scheduler: {name: asha, grace_epochs: 1, reduction_factor: 2}
resources: {workers: 2}
"""


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch):
    """Return a function that fakes a cluster: CPU cores of each node, and the GPUs of the first."""

    def pretend(*cores: int, gpus: int = 0) -> None:
        alive = [
            {"Alive": True, "NodeID": str(number), "Resources": {"CPU": float(each), "GPU": 0.0 if number else gpus}}
            for number, each in enumerate(cores)
        ]
        monkeypatch.setattr("ray.nodes", lambda: alive)

    return pretend


def test_more_workers_than_slots_are_refused_with_the_number_of_slots(nodes) -> None:
    with pytest.raises(UserError, match=f"--workers {slots() + 1}: this machine has slots for {slots()}"):
        refuse_workers(slots() + 1, "cpu")
    with pytest.raises(UserError, match="give at least 1"):
        refuse_workers(0, "cpu")
    with pytest.raises(UserError, match="mps has one worker"):
        refuse_workers(2, "mps")
    nodes(4, 4, gpus=2)
    with pytest.raises(UserError, match="the cluster has slots for 8"):
        form_team(9, "cpu", SMALL)
    with pytest.raises(UserError, match="the cluster has 2 GPUs; --device cpu has slots for 8"):
        form_team(3, "auto", SMALL)


def test_the_device_is_what_the_cluster_grants(nodes) -> None:
    nodes(8, gpus=2)
    assert form_team(2, "auto", SMALL) == Team(2, "cuda")
    assert form_team(2, "cpu", SMALL) == Team(2, "cpu")
    assert form_team(2, "auto", SMALL).scaling.use_gpu
    nodes(8)
    assert form_team(2, "auto", SMALL) == Team(2, "cpu")


def test_workers_of_a_large_model_share_the_cores_of_each_node(nodes) -> None:
    nodes(8)
    assert form_team(1, "cpu", TUNED).cpus == 8
    assert form_team(2, "cpu", TUNED).cpus == 4
    nodes(4, 6)
    assert form_team(2, "cpu", TUNED).cpus == 4
    assert form_team(4, "cpu", TUNED).cpus == 2
    assert form_team(2, "cpu", SMALL).cpus == 1


def test_workers_with_a_gpu_get_the_cores_beside_it(nodes) -> None:
    nodes(8, 64, gpus=2)
    assert form_team(2, "cuda", TUNED).cpus == 4
    nodes(1, 64, gpus=2)
    with pytest.raises(UserError, match="the cluster has 1 GPUs"):  # the other GPU has no core
        form_team(2, "cuda", SMALL)


def test_a_team_is_formed_of_the_nodes_that_share_the_folder_it_writes(
    nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "there")
    nodes(2, 8, 8)
    monkeypatch.setattr(distributed_fit, "find_nodes_with", lambda folder: frozenset({"0"}))
    assert count_offered_workers(tmp_path) == 1
    assert form_team_sharing(tmp_path, 1, "auto", TUNED) == Team(1, "cpu", 2, frozenset({"0"})), (
        "only cores of its node"
    )
    with pytest.raises(UserError, match="slots for 2 .CPU cores. on the 1 of 3 nodes that share"):
        form_team_sharing(tmp_path, 3, "auto", TUNED)
    monkeypatch.setattr(distributed_fit, "find_nodes_with", lambda folder: frozenset({"0", "1", "2"}))
    assert form_team_sharing(tmp_path, 3, "auto", TUNED) == Team(3, "cpu", 4)


def test_a_study_that_may_need_a_team_is_refused_if_no_node_with_its_folder_can_train(
    nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "there")
    nodes(0, 8)  # the driver's node runs no tasks
    monkeypatch.setattr(distributed_fit, "find_nodes_with", lambda folder: frozenset({"0"}))
    (tmp_path / "large.yaml").write_text("role: teacher\nspace: {model.name: {choice: [bilstm, pretrained]}}\n")
    with pytest.raises(UserError, match="slots for 0 .*storage that all nodes share"):
        require_team_slots(read_space(tmp_path / "large.yaml"), tmp_path)
    (tmp_path / "small.yaml").write_text("role: teacher\nspace: {model.name: {choice: [bilstm, lite_cnn]}}\n")
    require_team_slots(read_space(tmp_path / "small.yaml"), tmp_path)


def test_the_number_of_trials_at_once_follows_from_the_slots_for_their_workers() -> None:
    assert form_trial_team(2, Cluster(slots=8, gpus_per_slot=0.0)) == (Team(2, "cpu"), 4)
    assert form_trial_team(1, Cluster(slots=8, gpus_per_slot=0.25)) == (Team(1, "cuda"), 2)
    with pytest.raises(UserError, match="resources.workers 3: the cluster has slots for 2"):
        form_trial_team(3, Cluster(slots=2, gpus_per_slot=0.0))


@pytest.mark.parametrize("given", ["0", "two", "1.5", "true"])
def test_the_workers_of_a_space_are_a_whole_number(given: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"role: student\nresources: {{workers: {given}}}\n")
    with pytest.raises(
        SearchSpaceError, match=r"mine.yaml:2: resources.workers must be a whole number of at least 1; got"
    ):
        read_space(tmp_path / "mine.yaml")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(slots() < 2, reason="two workers need two CPU cores")
def test_trials_of_a_study_are_trained_by_two_workers_and_stopped_early(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "teams.yaml").write_text(SPACE)
    plan = tune.TuneRequest([PlannedStudy(str(tmp_path / "teams.yaml"))], DataRequest(CorpusRequest(str(tone_corpus))))
    output = io.StringIO()
    (outcome,) = tune.tune(plan, Display(Console(file=output, width=200))).study_results
    assert outcome.state_counts["failed"] == 0
    assert outcome.state_counts["complete"] + outcome.state_counts["pruned"] == 2
    client = open_client()
    runs = client.search_runs([client.get_experiment_by_name("ser-ravdess").experiment_id])
    trials = [run for run in runs if "trial" in run.data.tags]
    for run in trials:
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "dev_uar")]
        assert steps == list(range(1, int(run.data.metrics["epochs"]) + 1))
    assert len(trials) == 2
    assert not [*tmp_path.glob("runs/*/trials"), *tmp_path.glob("runs/*/finalists")]
