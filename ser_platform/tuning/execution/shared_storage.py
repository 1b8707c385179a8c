"""Which nodes of a cluster share a folder with this process: asked of each node, not told by whoever set it up."""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray

from ser_platform.errors import UserError
from ser_platform.settings import home

NODE_ID_LABEL = "ray.io/node-id"  # the label by which Ray knows a node
NODE_ANSWER_TIMEOUT_S = 60.0  # of a node that is asked, whose process has to start first

_nodes_with_home_cache: dict[tuple[str, Path, frozenset[str]], frozenset[str]] = {}


def list_alive_nodes() -> frozenset[str]:
    """Return the ids of the nodes that can be given work."""
    return frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])


def has_joined_cluster() -> bool:
    """Tell whether this process is in a cluster that others have started, which may have nodes with other disks."""
    return bool(os.environ.get("RAY_ADDRESS"))


def restrict_to_nodes(nodes: frozenset[str]) -> dict[str, Any]:
    """Return the options of a Ray task that keep it on these nodes; none where these are all."""
    return {} if nodes >= list_alive_nodes() else {"label_selector": make_node_selector(nodes)}


def make_node_selector(nodes: frozenset[str]) -> dict[str, str]:
    """Return these nodes as Ray selects by labels."""
    return {NODE_ID_LABEL: f"in({', '.join(sorted(nodes))})"}


def find_nodes_with_home() -> frozenset[str]:
    """Return the nodes whose `SER_HOME` is this process's: the same folder, whatever its path is there."""
    if not has_joined_cluster():
        return list_alive_nodes()
    key = ray.get_runtime_context().get_job_id(), home(), list_alive_nodes()
    if key not in _nodes_with_home_cache:
        with _place_marker(home()) as sign:
            _nodes_with_home_cache[key] = _find_nodes_where(_is_in_home, sign.name)
    return _nodes_with_home_cache[key]


def find_nodes_with(folder: Path, readable: Sequence[str] = ()) -> frozenset[str]:
    """Return the nodes that read and write `folder` under its path, and read these files."""
    if not has_joined_cluster():
        return list_alive_nodes()
    with _place_marker(folder) as sign:
        return _find_nodes_where(_is_usable, str(sign), tuple(readable))


def require_shared(folder: Path, what: str) -> None:
    """Refuse work for which all nodes must share `folder`.

    Raises:
        UserError: some do not; says how many.
    """
    there = list_alive_nodes()
    lacking = len(there - find_nodes_with(folder))
    if lacking:
        raise UserError(
            f"{what}: {lacking} of {len(there)} nodes of the cluster cannot read and write {folder}; run the command "
            "in a folder on storage that all nodes share under the same path, or without workers of Ray Train"
        )


@contextlib.contextmanager
def _place_marker(folder: Path) -> Iterator[Path]:
    """A file that only who sees `folder` sees."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".seen-{uuid.uuid4().hex}"
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _find_nodes_where(condition: Callable[..., bool], *arguments: object) -> frozenset[str]:
    """Return the nodes on which `condition` is true; one that dies meanwhile, or does not answer, is none of them."""
    task: Any = ray.remote(num_cpus=0, max_retries=0)(condition)
    asked = {node: task.options(label_selector={NODE_ID_LABEL: node}).remote(*arguments) for node in list_alive_nodes()}
    found = []
    for node, answer in asked.items():
        with contextlib.suppress(ray.exceptions.RayError):
            if ray.get(answer, timeout=NODE_ANSWER_TIMEOUT_S):
                found.append(node)
    return frozenset(found)


def _is_in_home(name: str) -> bool:
    return _is_usable(str(home() / name), ())


def _is_usable(sign: str, readable: tuple[str, ...]) -> bool:
    folder = Path(sign).parent
    return os.access(folder, os.W_OK) and all(os.access(path, os.R_OK) for path in (sign, *readable))
