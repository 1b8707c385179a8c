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

NODE = "ray.io/node-id"  # the label by which Ray knows a node
PATIENCE_S = 60.0  # of a node that is asked, whose process has to start first

_home_shared: dict[tuple[str, Path, frozenset[str]], frozenset[str]] = {}


def alive() -> frozenset[str]:
    """Return the ids of the nodes that can be given work."""
    return frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])


def is_joined() -> bool:
    """Tell whether this process is in a cluster that others have started, which may have nodes with other disks."""
    return bool(os.environ.get("RAY_ADDRESS"))


def only_on(nodes: frozenset[str]) -> dict[str, Any]:
    """Return the options of a Ray task that keep it on these nodes; none where these are all."""
    return {} if nodes >= alive() else {"label_selector": selector(nodes)}


def selector(nodes: frozenset[str]) -> dict[str, str]:
    """Return these nodes as Ray selects by labels."""
    return {NODE: f"in({', '.join(sorted(nodes))})"}


def nodes_with_home() -> frozenset[str]:
    """Return the nodes whose `SER_HOME` is this process's: the same folder, whatever its path is there."""
    if not is_joined():
        return alive()
    key = ray.get_runtime_context().get_job_id(), home(), alive()
    if key not in _home_shared:
        with _sign(home()) as sign:
            _home_shared[key] = _nodes_where(_is_at_home, sign.name)
    return _home_shared[key]


def nodes_with(folder: Path, readable: Sequence[str] = ()) -> frozenset[str]:
    """Return the nodes that read and write `folder` under its path, and read these files."""
    if not is_joined():
        return alive()
    with _sign(folder) as sign:
        return _nodes_where(_is_usable, str(sign), tuple(readable))


def require_shared(folder: Path, what: str) -> None:
    """Refuse work for which all nodes must share `folder`.

    Raises:
        UserError: some do not; says how many.
    """
    there = alive()
    lacking = len(there - nodes_with(folder))
    if lacking:
        raise UserError(
            f"{what}: {lacking} of {len(there)} nodes of the cluster cannot read and write {folder}; run the command "
            "in a folder on storage that all nodes share under the same path, or without workers of Ray Train"
        )


@contextlib.contextmanager
def _sign(folder: Path) -> Iterator[Path]:
    """A file that only who sees `folder` sees."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".seen-{uuid.uuid4().hex}"
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _nodes_where(holds: Callable[..., bool], *arguments: object) -> frozenset[str]:
    """Return the nodes on which `holds` is true; one that dies meanwhile, or does not answer, is none of them."""
    task: Any = ray.remote(num_cpus=0, max_retries=0)(holds)
    asked = {node: task.options(label_selector={NODE: node}).remote(*arguments) for node in alive()}
    found = []
    for node, answer in asked.items():
        with contextlib.suppress(ray.exceptions.RayError):
            if ray.get(answer, timeout=PATIENCE_S):
                found.append(node)
    return frozenset(found)


def _is_at_home(name: str) -> bool:
    return _is_usable(str(home() / name), ())


def _is_usable(sign: str, readable: tuple[str, ...]) -> bool:
    folder = Path(sign).parent
    return os.access(folder, os.W_OK) and all(os.access(path, os.R_OK) for path in (sign, *readable))
