"""Feature extraction on a cluster: each shard of clips is a Ray task.

Shards go to the nodes that read the audio, and read and write the feature store, by the driver's paths: nodes that
share storage (NFS 4, or another file system with `flock`) with it. Where there is none, the driver's machine extracts
alone. Nothing is copied over the network by Ray but the list of clips and a digest of each; what trials on other nodes
read is sent later (`data_transfer`).
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import ray

from ser_platform.features.store.extraction import Done, Job, Mapper, extract, on_this_machine
from ser_platform.tuning.execution.cluster import cluster
from ser_platform.tuning.execution.data_transfer import NOTHING, Shipment, offer, tuned_encoders
from ser_platform.tuning.execution.shared_storage import is_joined, nodes_with, only_on
from ser_platform.tuning.search_space.requirements import heard_families, hearing
from ser_platform.tuning.search_space.space import Space

AHEAD = 2  # tasks a slot that are sent before their turn, so that no slot waits for the driver


def mapper() -> Mapper:
    """Return what runs extraction: the cluster at `RAY_ADDRESS` where one is named, else this machine."""
    return on_cluster if os.environ.get("RAY_ADDRESS") else on_this_machine


def on_cluster(jobs: Sequence[Job]) -> Iterator[Done]:
    """Run the jobs as Ray tasks of one core, joining the cluster where this process has not; results as they come."""
    if not jobs:
        return
    with cluster():
        nodes = nodes_with(jobs[0].root, [jobs[0].clips[0].path, jobs[-1].clips[-1].path])
        yield from _as_tasks(jobs, nodes) if nodes else on_this_machine(jobs)


def _as_tasks(jobs: Sequence[Job], nodes: frozenset[str]) -> Iterator[Done]:
    slots = int(sum(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["NodeID"] in nodes)) or 1
    task: Any = ray.remote(num_cpus=1, max_retries=2, scheduling_strategy="SPREAD", **only_on(nodes))(extract)
    left = iter(jobs)
    waiting = [task.remote(job) for job in itertools.islice(left, AHEAD * slots)]
    while waiting:
        (ready,), waiting = ray.wait(waiting, num_returns=1)
        waiting += [task.remote(job) for job in itertools.islice(left, 1)]
        try:
            yield ray.get(ready)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error  # a full disk of a node is told as one of this machine


def offer_for_space(space: Space, hashes: Sequence[str]) -> Shipment:
    """Return what nodes with a store of their own need for any trial of a space on clips of these digests."""
    if not is_joined():
        return NOTHING
    tuned = tuned_encoders(hearing(space))
    return offer(heard_families([space]), space.fixed("features.dtype"), hashes, tuned)
