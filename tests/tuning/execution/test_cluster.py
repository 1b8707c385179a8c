"""How many trials a cluster trains at once, by made lists of nodes; and that a local one leaves nothing behind."""

import os
from pathlib import Path

import pytest

from ser_platform.errors import UserError
from ser_platform.tuning.execution.cluster import GPU_SHARE, Node, cluster, slots_on
from ser_platform.tuning.search_space.space import Resources


@pytest.mark.parametrize(
    ("nodes", "resources", "slots"),
    [
        ([Node(2)], Resources(), 2),
        ([Node(3), Node(3)], Resources(cpus=2), 2),  # not 3: a trial is on one node
        ([Node(8, 1)], Resources(gpus=0.1), 8),  # ten shares, but eight cores
        ([Node(16, 1)], Resources(gpus=0.1), 10),
        ([Node(16, 2)], Resources(gpus=0.6), 2),  # a share lies on one GPU: 2 x 0.4 left over are none
        ([Node(16, 1), Node(16, 3)], Resources(gpus=2), 1),
        ([Node(64), Node(2, 1)], Resources(gpus=0.5), 2),
        ([Node(0), Node(4)], Resources(cpus=4), 1),
        ([Node(4, 1)], Resources(gpus=0.0), 4),  # asked for no GPU
    ],
)
def test_slots_are_counted_node_by_node(nodes: list[Node], resources: Resources, slots: int) -> None:
    assert slots_on(nodes, resources).slots == slots


def test_a_trial_takes_a_share_of_a_gpu_where_there_are_any_and_the_space_names_none() -> None:
    assert slots_on([Node(8, 1), Node(8)], Resources()).gpus == GPU_SHARE
    assert slots_on([Node(8)], Resources()).gpus == 0


@pytest.mark.parametrize("asked", [Resources(cpus=5), Resources(gpus=0.5)])
def test_more_than_any_node_has_is_refused_with_what_there_is(asked: Resources) -> None:
    with pytest.raises(UserError, match="no node has that: nodes have 4 CPU cores and 0 GPUs"):
        slots_on([Node(4), Node(4)], asked)


@pytest.mark.ray
@pytest.mark.slow
def test_a_local_cluster_is_guarded_by_a_token_that_is_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    with cluster():
        assert os.environ["RAY_AUTH_MODE"] == "token"
    assert not (tmp_path / "user").exists()
    assert not [name for name in os.environ if name.startswith("RAY_AUTH")]
