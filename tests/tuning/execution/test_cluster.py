"""The number of slots of a cluster, for synthetic lists of nodes; a local cluster leaves no files."""

import os
from pathlib import Path

import pytest

from ser_platform.errors import UserError
from ser_platform.tuning.execution.cluster import DEFAULT_GPU_SHARE, NodeResources, connect_cluster, plan_slots
from ser_platform.tuning.search_space.space import Resources


@pytest.mark.parametrize(
    ("nodes", "resources", "slots"),
    [
        ([NodeResources(2)], Resources(), 2),
        ([NodeResources(3), NodeResources(3)], Resources(cpus=2), 2),  # not 3: a trial is on one node
        ([NodeResources(8, 1)], Resources(gpus=0.1), 8),  # ten shares, but eight cores
        ([NodeResources(16, 1)], Resources(gpus=0.1), 10),
        ([NodeResources(16, 2)], Resources(gpus=0.6), 2),  # a share is on one GPU: 2 x 0.4 left over are none
        ([NodeResources(16, 1), NodeResources(16, 3)], Resources(gpus=2), 1),
        ([NodeResources(64), NodeResources(2, 1)], Resources(gpus=0.5), 2),
        ([NodeResources(0), NodeResources(4)], Resources(cpus=4), 1),
        ([NodeResources(4, 1)], Resources(gpus=0.0), 4),  # without a GPU
    ],
)
def test_slots_are_counted_node_by_node(nodes: list[NodeResources], resources: Resources, slots: int) -> None:
    assert plan_slots(nodes, resources).slots == slots


def test_a_trial_gets_a_share_of_a_gpu_on_a_cluster_with_gpus_unless_the_space_sets_one() -> None:
    assert plan_slots([NodeResources(8, 1), NodeResources(8)], Resources()).gpus_per_slot == DEFAULT_GPU_SHARE
    assert plan_slots([NodeResources(8)], Resources()).gpus_per_slot == 0


@pytest.mark.parametrize("resources", [Resources(cpus=5), Resources(gpus=0.5)])
def test_resources_that_no_node_has_are_refused_with_those_of_the_nodes(resources: Resources) -> None:
    with pytest.raises(UserError, match="which no node has; nodes have 4 CPU cores and 0 GPUs"):
        plan_slots([NodeResources(4), NodeResources(4)], resources)


@pytest.mark.ray
def test_a_local_cluster_is_protected_by_a_token_that_is_not_written_to_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    with connect_cluster():
        assert os.environ["RAY_AUTH_MODE"] == "token"
    assert not (tmp_path / "user").exists()
    assert not [name for name in os.environ if name.startswith("RAY_AUTH")]
