"""The request of `ser train`, stored in the training's folder, so that an interrupted training can continue."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ser_platform.errors import UserError
from ser_platform.features.dataset import DataRequest
from ser_platform.features.store.locks import try_work_lock
from ser_platform.files import read_json, write_json
from ser_platform.settings import Overrides, as_json, check_overrides, runs_folder
from ser_platform.tuning.execution.fit_folder import FitFolder

TRAINING_FILE = "training.json"
TRAINING_LOCK = "train"  # one process at a time may hold it for a training
CHANGEABLE_ON_RESUME = ("workers", "device")  # options that decide where a training runs, not its result
STATE_FIELDS = ("name", "facts", "finished")  # not options of the user


@dataclass
class TrainRequest:
    """The request of `ser train`, and the state of its training.

    Attributes:
        overrides: settings that replace the defaults of the role.
        workers: number of workers; None trains in this process.
        init: the user's reference to the initial model.
        allow_leak: whether the initial model may have been trained on dev or test clips.
        name: of the training, of its folder under `runs/` and of its MLflow run; "" before it starts.
        facts: fingerprints of data and models at the start, which must be unchanged when the training continues.
    """

    role: str
    data: DataRequest
    overrides: Overrides = field(default_factory=dict)
    device: str = "auto"
    workers: int | None = None
    init: str | None = None
    allow_leak: bool = False
    name: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    finished: bool = False

    def save(self) -> None:
        """Write the request to the training's folder; `load_last` then returns it."""
        write_json(self.folder / TRAINING_FILE, self.as_json())

    def remove_folder(self) -> None:
        """Mark the training as finished and remove its folder."""
        self.finished = True
        self.save()  # after a kill during the removal the training is not continued
        shutil.rmtree(self.folder)

    def as_json(self) -> dict[str, Any]:
        """Return the request as JSON values."""
        return self.__dict__ | {"data": self.data.as_json(), "overrides": as_json(self.overrides)}

    @classmethod
    def load_last(cls) -> "TrainRequest":
        """Return the request of the training that was interrupted last in the working directory.

        Raises:
            UserError: there is none, or another process continues it.
        """
        written = sorted(runs_folder().glob(f"*/{TRAINING_FILE}"), key=lambda path: path.stat().st_mtime, reverse=True)
        left = [plan for plan in map(cls._read, written) if not plan.finished]
        if not left:
            raise UserError("nothing to resume here; start with: ser train teacher --corpus NAME")
        for plan in left:
            with try_work_lock(plan.folder, TRAINING_LOCK) as mine:
                if mine:
                    return plan
        raise UserError(f"{left[0].name} is being trained by another process, and no other can be resumed")

    @classmethod
    def _read(cls, path: Path) -> "TrainRequest":
        content = read_json(path)
        try:
            data, overrides = DataRequest.from_json(content["data"]), check_overrides(content["overrides"])
            return cls(**{**content, "data": data, "overrides": overrides})
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{path} is of another version; remove {path.parent} and start another training with: ser train"
            ) from error

    def refuse_other_options(self, requested: "TrainRequest", omitted: set[str]) -> None:
        """Refuse to continue with options that differ from those at the start; fields in `omitted` are not compared.

        Raises:
            UserError: names the options that differ.
        """
        free = {*CHANGEABLE_ON_RESUME, *STATE_FIELDS, *omitted}
        new_options, old_options = (
            _flatten({name: value for name, value in plan.as_json().items() if name not in free})
            for plan in (requested, self)
        )
        differing = [
            name for name in sorted(new_options | old_options) if new_options.get(name) != old_options.get(name)
        ]
        if differing:
            differences = "; ".join(
                f"{name} was {_format_value(old_options.get(name))}, is {_format_value(new_options.get(name))}"
                for name in differing
            )
            raise UserError(
                f"--resume continues {self.name} with its original options: {differences}; leave these options out"
            )

    def refuse_changed(self, facts: dict[str, Any]) -> None:
        """Refuse to continue where a fingerprint has changed; store the fingerprints at the start.

        Raises:
            UserError: names what has changed.
        """
        changed = [name for name, value in self.facts.items() if value != facts.get(name)]
        if changed:
            differences = "; ".join(
                f"{name}: it was {_format_value(self.facts[name])}, is {_format_value(facts.get(name))}"
                for name in changed
            )
            raise UserError(
                f"{self.name} cannot be resumed, because its data or models have changed since it began ({differences})"
            )
        self.facts = facts

    @property
    def folder(self) -> Path:
        return runs_folder() / self.name

    def fold_folder(self, number: int) -> FitFolder:
        """Return the folder of a fold's checkpoints."""
        return FitFolder(self.folder / f"fold-{number + 1}")

    @contextlib.contextmanager
    def hold_lock(self) -> Iterator[None]:
        """Prevent other processes from continuing this training during the block.

        Raises:
            UserError: another process trains it.
        """
        with try_work_lock(self.folder, TRAINING_LOCK) as mine:
            if not mine:
                raise UserError(f"{self.name} is being trained by another process")
            yield


def _flatten(content: dict[str, Any], before: str = "--") -> dict[str, Any]:
    """Return nested mappings as a flat one: settings under their names, other entries as options."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            flat |= _flatten(value, "" if name == "overrides" else "--")
        else:
            flat[before + name] = list(value) if isinstance(value, tuple) else value
    return flat


def _format_value(value: Any) -> str:
    return "not given" if value in (None, "", {}) else str(value)[:80]
