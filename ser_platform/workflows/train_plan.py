"""What `ser train` was asked for, kept in the training's folder, so that one which was cut off can go on."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ser_platform.errors import UserError
from ser_platform.features.dataset import DataRequest
from ser_platform.features.store.locks import alone
from ser_platform.files import read_json, write_json
from ser_platform.settings import Settings, as_json, runs_folder
from ser_platform.tuning.execution.fit_folder import FitFolder

PLAN = "training.json"
WORK = "train"  # of which one process at a time does a training's
FREE = ("workers", "device")  # what may be another when a training goes on: it decides where, not what
OWN = ("name", "facts", "finished")  # the plan's, no option of the user


@dataclass
class TrainingPlan:
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
    overrides: Settings = field(default_factory=dict)
    device: str = "auto"
    workers: int | None = None
    init: str | None = None
    allow_leak: bool = False
    name: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    finished: bool = False

    def save(self) -> None:
        """Write the plan into the training's folder; it is the last one of the working directory from now on."""
        write_json(self.folder / PLAN, self.as_json())

    def end(self) -> None:
        """Remove the training's folder: nothing of it is to go on."""
        self.finished = True
        self.save()  # a kill while the folder is removed leaves no half of a training
        shutil.rmtree(self.folder)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return self.__dict__ | {"data": self.data.as_json(), "overrides": as_json(self.overrides)}

    @classmethod
    def last(cls) -> "TrainingPlan":
        """Return the plan of the working directory's training that was cut off last.

        Raises:
            UserError: there is none, or another process goes on with it.
        """
        written = sorted(runs_folder().glob(f"*/{PLAN}"), key=lambda path: path.stat().st_mtime, reverse=True)
        left = [plan for plan in map(cls._read, written) if not plan.finished]
        if not left:
            raise UserError("nothing to resume here; start with: ser train teacher --corpus NAME")
        for plan in left:
            with alone(plan.folder, WORK) as mine:
                if mine:
                    return plan
        raise UserError(f"{left[0].name} is being trained by another process, and no other training was cut off here")

    @classmethod
    def _read(cls, path: Path) -> "TrainingPlan":
        content = read_json(path)
        try:
            return cls(**{**content, "data": DataRequest.from_json(content["data"])})
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{path} is of another version; remove {path.parent} and start another training with: ser train"
            ) from error

    def refuse_another(self, asked: "TrainingPlan", left_out: set[str]) -> None:
        """Refuse to go on as `asked` where that is another training; options in `left_out` are as they were.

        Raises:
            UserError: names what differs.
        """
        free = {*FREE, *OWN, *left_out}
        here, there = (
            _flat({name: value for name, value in plan.as_json().items() if name not in free}) for plan in (asked, self)
        )
        differing = [name for name in sorted(here | there) if here.get(name) != there.get(name)]
        if differing:
            told = "; ".join(f"{name} was {_shown(there.get(name))}, is {_shown(here.get(name))}" for name in differing)
            raise UserError(f"--resume goes on with {self.name} as it began: {told}; leave these options out")

    def refuse_changed(self, facts: dict[str, Any]) -> None:
        """Refuse to go on where the world has changed; remember it where the training begins.

        Raises:
            UserError: names what is another than when it began.
        """
        changed = [name for name, value in self.facts.items() if value != facts.get(name)]
        if changed:
            told = "; ".join(
                f"{name}: it was {_shown(self.facts[name])}, is {_shown(facts.get(name))}" for name in changed
            )
            raise UserError(f"{self.name} cannot be resumed, something has changed since it began ({told})")
        self.facts = facts

    @property
    def folder(self) -> Path:
        return runs_folder() / self.name

    def fold(self, number: int) -> FitFolder:
        """Return the folder in which a fold is trained."""
        return FitFolder(self.folder / f"fold-{number + 1}")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from going on with this training while the block lasts.

        Raises:
            UserError: another one does.
        """
        with alone(self.folder, WORK) as mine:
            if not mine:
                raise UserError(f"{self.name} is being trained by another process")
            yield


def _flat(content: dict[str, Any], before: str = "--") -> dict[str, Any]:
    """Return nested mappings as one, in terms of JSON: settings under their names, the rest as options."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            flat |= _flat(value, "" if name == "overrides" else "--")
        else:
            flat[before + name] = list(value) if isinstance(value, tuple) else value
    return flat


def _shown(value: Any) -> str:
    return "not given" if value in (None, "", {}) else str(value)[:80]
