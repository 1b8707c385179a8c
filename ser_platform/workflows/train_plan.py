"""What `ser train` was asked for, kept in the training's folder, so that one which was cut off can go on."""

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
TRAINING_LOCK = "train"  # of which one process at a time does a training's
CHANGEABLE_ON_RESUME = ("workers", "device")  # what may be another when a training goes on: it decides where, not what
STATE_FIELDS = ("name", "facts", "finished")  # the plan's, no option of the user


@dataclass
class TrainRequest:
    """What `ser train` was asked for, and the training that it has become.

    Attributes:
        overrides: settings in place of the role's.
        workers: None trains in this process.
        init: the model that it starts from, as the user named it; `allow_leak` starts from one that has heard dev or
            test.
        name: of the training, its folder under `runs/` and its MLflow run; "" before it begins.
        facts: fingerprints of what it began with, which must be the same when it goes on.
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
        """Write the plan into the training's folder; it is the last one of the working directory from now on."""
        write_json(self.folder / TRAINING_FILE, self.as_json())

    def remove_folder(self) -> None:
        """Remove the training's folder: nothing of it is to go on."""
        self.finished = True
        self.save()  # a kill while the folder is removed leaves no half of a training
        shutil.rmtree(self.folder)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return self.__dict__ | {"data": self.data.as_json(), "overrides": as_json(self.overrides)}

    @classmethod
    def load_last(cls) -> "TrainRequest":
        """Return the plan of the working directory's training that was cut off last.

        Raises:
            UserError: there is none, or another process goes on with it.
        """
        written = sorted(runs_folder().glob(f"*/{TRAINING_FILE}"), key=lambda path: path.stat().st_mtime, reverse=True)
        left = [plan for plan in map(cls._read, written) if not plan.finished]
        if not left:
            raise UserError("nothing to resume here; start with: ser train teacher --corpus NAME")
        for plan in left:
            with try_work_lock(plan.folder, TRAINING_LOCK) as mine:
                if mine:
                    return plan
        raise UserError(f"{left[0].name} is being trained by another process, and no other training was cut off here")

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
        """Refuse to go on as `requested` where that is another training; options in `omitted` are as they were.

        Raises:
            UserError: names what differs.
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
            raise UserError(f"--resume goes on with {self.name} as it began: {differences}; leave these options out")

    def refuse_changed(self, facts: dict[str, Any]) -> None:
        """Refuse to go on where the world has changed; remember it where the training begins.

        Raises:
            UserError: names what is another than when it began.
        """
        changed = [name for name, value in self.facts.items() if value != facts.get(name)]
        if changed:
            differences = "; ".join(
                f"{name}: it was {_format_value(self.facts[name])}, is {_format_value(facts.get(name))}"
                for name in changed
            )
            raise UserError(f"{self.name} cannot be resumed, something has changed since it began ({differences})")
        self.facts = facts

    @property
    def folder(self) -> Path:
        return runs_folder() / self.name

    def fold_folder(self, number: int) -> FitFolder:
        """Return the folder in which a fold is trained."""
        return FitFolder(self.folder / f"fold-{number + 1}")

    @contextlib.contextmanager
    def hold_lock(self) -> Iterator[None]:
        """Keep other processes from going on with this training while the block lasts.

        Raises:
            UserError: another one does.
        """
        with try_work_lock(self.folder, TRAINING_LOCK) as mine:
            if not mine:
                raise UserError(f"{self.name} is being trained by another process")
            yield


def _flatten(content: dict[str, Any], before: str = "--") -> dict[str, Any]:
    """Return nested mappings as one, in terms of JSON: settings under their names, the rest as options."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            flat |= _flatten(value, "" if name == "overrides" else "--")
        else:
            flat[before + name] = list(value) if isinstance(value, tuple) else value
    return flat


def _format_value(value: Any) -> str:
    return "not given" if value in (None, "", {}) else str(value)[:80]
