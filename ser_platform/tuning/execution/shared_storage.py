"""The nodes of a cluster that share a folder with this process, tested by a task on each node."""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray

from ser_platform.errors import UserError
from ser_platform.settings import home

NODE_ID_LABEL = "ray.io/node-id"  # Ray's label with the id of a node
NODE_ANSWER_TIMEOUT_S = 60.0  # for the task on a node, including the start of its process

_nodes_with_home_cache: dict[tuple[str, Path, frozenset[str]], frozenset[str]] = {}


def list_alive_nodes() -> frozenset[str]:
    """Return the ids of the alive nodes."""
    return frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])


def has_joined_cluster() -> bool:
    """Return whether this process uses a cluster at `RAY_ADDRESS`, whose nodes may have other disks."""
    return bool(os.environ.get("RAY_ADDRESS"))


def restrict_to_nodes(nodes: frozenset[str]) -> dict[str, Any]:
    """Return the options that restrict a Ray task to these nodes; {} if these are all."""
    return {} if nodes >= list_alive_nodes() else {"label_selector": make_node_selector(nodes)}


def make_node_selector(nodes: frozenset[str]) -> dict[str, str]:
    """Return Ray's label selector for these nodes."""
    return {NODE_ID_LABEL: f"in({', '.join(sorted(nodes))})"}


def find_nodes_with_home() -> frozenset[str]:
    """Return the nodes whose `SER_HOME` is the same folder as this process's, possibly under another path."""
    if not has_joined_cluster():
        return list_alive_nodes()
    key = ray.get_runtime_context().get_job_id(), home(), list_alive_nodes()
    if key not in _nodes_with_home_cache:
        with _place_marker(home()) as marker:
            _nodes_with_home_cache[key] = _find_nodes_where(_is_in_home, marker.name)
    return _nodes_with_home_cache[key]


def find_nodes_with(folder: Path, readable: Sequence[str] = ()) -> frozenset[str]:
    """Return the nodes that can read and write `folder` under the same path, and read the files `readable`."""
    if not has_joined_cluster():
        return list_alive_nodes()
    with _place_marker(folder) as marker:
        return _find_nodes_where(_is_usable, str(marker), tuple(readable))


def require_shared(folder: Path, what: str) -> None:
    """Raise UserError, which starts with `what`, unless all nodes share `folder`."""
    nodes = list_alive_nodes()
    if n_lacking := len(nodes - find_nodes_with(folder)):
        raise UserError(
            f"{what}: {n_lacking} of {len(nodes)} nodes of the cluster cannot read and write {folder}; run the command "
            "in a folder on storage that all nodes share under the same path, or without workers of Ray Train"
        )


@contextlib.contextmanager
def _place_marker(folder: Path) -> Iterator[Path]:
    """Yield a new file in `folder`, removed at the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".seen-{uuid.uuid4().hex}"
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _find_nodes_where(condition: Callable[..., bool], *arguments: object) -> frozenset[str]:
    """Return the nodes on which `condition` is true; nodes that fail or do not answer in time are left out."""
    task: Any = ray.remote(num_cpus=0, max_retries=0)(condition)
    nodes = list_alive_nodes()
    answers = {node: task.options(label_selector={NODE_ID_LABEL: node}).remote(*arguments) for node in nodes}
    found = []
    for node, answer in answers.items():
        with contextlib.suppress(ray.exceptions.RayError):
            if ray.get(answer, timeout=NODE_ANSWER_TIMEOUT_S):
                found.append(node)
    return frozenset(found)


def _is_in_home(name: str) -> bool:
    return _is_usable(str(home() / name), ())


def _is_usable(marker: str, readable: tuple[str, ...]) -> bool:
    folder = Path(marker).parent
    return os.access(folder, os.W_OK) and all(os.access(path, os.R_OK) for path in (marker, *readable))
