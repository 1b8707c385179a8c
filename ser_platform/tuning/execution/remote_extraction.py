"""Feature extraction on a cluster: each shard of clips is a Ray task.

Tasks run on the nodes that can read the audio and write the feature store under the driver's paths, on shared storage
(NFS 4, or another file system with `flock`). Without such nodes the driver's machine extracts alone. Ray sends only the
list of clips and their digests; features for trials on other nodes are sent later (`data_transfer`).
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import ray

from ser_platform.features.store.extraction import (
    ExtractionJob,
    ExtractionResult,
    JobMapper,
    extract,
    map_on_this_machine,
)
from ser_platform.tuning.execution.cluster import connect_cluster
from ser_platform.tuning.execution.data_transfer import EMPTY_SHIPMENT, Shipment, list_tuned_encoders, make_shipment
from ser_platform.tuning.execution.shared_storage import find_nodes_with, has_joined_cluster, restrict_to_nodes
from ser_platform.tuning.search_space.requirements import iterate_input_settings, list_input_families
from ser_platform.tuning.search_space.space import Space

TASKS_AHEAD_PER_SLOT = 2  # submitted tasks for each slot, so that no slot waits for the driver


def choose_mapper() -> JobMapper:
    """Return the function that runs extraction jobs: on the cluster at `RAY_ADDRESS` if set, else on this machine."""
    return map_on_cluster if os.environ.get("RAY_ADDRESS") else map_on_this_machine


def map_on_cluster(jobs: Sequence[ExtractionJob]) -> Iterator[ExtractionResult]:
    """Run the jobs as Ray tasks with one core each; yield results in the order of completion."""
    if not jobs:
        return
    with connect_cluster():
        nodes = find_nodes_with(jobs[0].root, [jobs[0].clips[0].path, jobs[-1].clips[-1].path])
        yield from _run_tasks(jobs, nodes) if nodes else map_on_this_machine(jobs)


def _run_tasks(jobs: Sequence[ExtractionJob], nodes: frozenset[str]) -> Iterator[ExtractionResult]:
    slots = int(sum(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["NodeID"] in nodes)) or 1
    task: Any = ray.remote(num_cpus=1, max_retries=2, scheduling_strategy="SPREAD", **restrict_to_nodes(nodes))(extract)
    left = iter(jobs)
    waiting = [task.remote(job) for job in itertools.islice(left, TASKS_AHEAD_PER_SLOT * slots)]
    while waiting:
        (ready,), waiting = ray.wait(waiting, num_returns=1)
        waiting += [task.remote(job) for job in itertools.islice(left, 1)]
        try:
            yield ray.get(ready)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error  # the original error, for example of a full disk


def make_space_shipment(space: Space, hashes: Sequence[str]) -> Shipment:
    """Return the data for nodes with their own store, for all trials of a space on the clips with these digests."""
    if not has_joined_cluster():
        return EMPTY_SHIPMENT
    tuned = list_tuned_encoders(iterate_input_settings(space))
    return make_shipment(list_input_families([space]), space.fixed_settings.features.dtype, hashes, tuned)
