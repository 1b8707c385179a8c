"""The state of optimizer, random generators and results as flat tensors and JSON, and back."""

import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ser_platform.training.batches.batch import TrainingData
from ser_platform.training.epoch_result import EpochResult


def prefix_names(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of `tensors` on the CPU, with `name` and a dot before their names."""
    return {f"{name}.{key}": value.detach().to("cpu", copy=True) for key, value in tensors.items()}


def read_optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Return an optimizer's tensors as `number.name`, and its parameter groups."""
    state = optimizer.state_dict()
    tensors = {f"{number}.{name}": value for number, values in state["state"].items() for name, value in values.items()}
    return tensors, state["param_groups"]


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """Load a state of `read_optimizer_state` into `optimizer`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    # The optimizer's betas are a tuple, which JSON stores as a list.
    groups = [{**group, "betas": tuple(group["betas"])} for group in groups]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def read_random_state(device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the states of the generators of Python, NumPy, torch and, for torch, `device`."""
    tensors = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        tensors["mps"] = torch.mps.get_rng_state()
    version, words, gauss = random.getstate()
    return tensors, {"python": [version, list(words), gauss], "numpy": _to_lists(np.random.get_state(legacy=False))}


def restore_random(device: torch.device, tensors: Mapping[str, Tensor], states: Mapping[str, Any]) -> None:
    """Set a state of `read_random_state`; the state of another kind of device than `device` is ignored."""
    torch.set_rng_state(tensors["torch"])
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], device)
    if device.type == "mps" and "mps" in tensors:
        torch.mps.set_rng_state(tensors["mps"])
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(states["numpy"])


def _to_lists(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: _to_lists(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


def results_as_json(results: list[EpochResult]) -> list[dict[str, Any]]:
    """Return results as JSON, with null for NaN."""
    rows = [asdict(result) for result in results]
    return [{name: None if math.isnan(value) else value for name, value in row.items()} for row in rows]


def results_from_json(rows: list[dict[str, Any]]) -> list[EpochResult]:
    """Return the results of rows made by `results_as_json`."""
    known: list[dict[str, Any]] = [{name: math.nan if v is None else v for name, v in row.items()} for row in rows]
    return [EpochResult(**row) for row in known]


def compute_fingerprint(data: TrainingData) -> str:
    """Return a digest of labels, train and dev clips, and their targets."""
    digest = hashlib.sha256("\n".join(data.labels).encode())
    dev = np.empty(0, dtype=np.int64) if data.dev is None else data.dev
    for clips in (data.train, dev):
        digest.update(np.int64(len(clips)).tobytes() + clips.tobytes() + data.targets[clips].tobytes())
    return digest.hexdigest()
