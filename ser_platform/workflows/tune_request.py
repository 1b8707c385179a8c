"""The request of `ser tune`, stored in `runs/tune.json`, so that an interrupted tuning can continue."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ser_platform.errors import UserError
from ser_platform.features.dataset import DataRequest
from ser_platform.files import read_json, write_json
from ser_platform.settings import Overrides, as_json, check_overrides, runs_folder
from ser_platform.tracking.mlflow_store import Client
from ser_platform.tracking.registry import RegisteredVersion, find_version
from ser_platform.tuning.search_space.space import Space
from ser_platform.tuning.search_space.yaml_file import read_space_text
from ser_platform.tuning.study.request import StudyRequest, read_request
from ser_platform.tuning.study.study_folder import STUDY_FINISHED, StudyFolder

KEYS_OF_0_1 = ("spaces", "studies")  # of `runs/tune.json`, in place of "planned" and "study_names"


@dataclass(frozen=True)
class PlannedStudy:
    """One study of a request: the file of its search space, and whether it is a control without a teacher."""

    path: str
    is_control: bool = False

    @property
    def control(self) -> "PlannedStudy":
        """The same search without a teacher."""
        return replace(self, is_control=True)


@dataclass
class TuneRequest:
    """The request of `ser tune`, and the names of the studies that have begun."""

    planned: list[PlannedStudy]
    data: DataRequest
    trials: int | None = None
    minutes: float | None = None
    confirm: tuple[int, int] | None = None
    overrides: Overrides = field(default_factory=dict)
    study_names: dict[PlannedStudy, str] = field(default_factory=dict)
    warm_start: list[str] = field(default_factory=list)  # earlier studies
    allow_leak: bool = False
    teacher: str = ""  # reference of a registered model; "" is the candidate or champion
    register_as: str = ""  # prefix of the names of the registered models; "" is the default
    needs_control: bool = True  # False leaves controls out where the corpus is too small for them
    texts: dict[str, str] = field(default_factory=dict)  # of the spaces' files when the request was made

    @staticmethod
    def path() -> Path:
        return runs_folder() / "tune.json"

    def save(self) -> None:
        content = self.__dict__ | {"data": self.data.as_json(), "overrides": as_json(self.overrides)}
        content["planned"] = [asdict(study) for study in self.planned]
        content["study_names"] = [asdict(study) | {"name": name} for study, name in self.study_names.items()]
        write_json(self.path(), content)

    @classmethod
    def load_last(cls) -> "TuneRequest":
        """Return the unfinished request of the working directory.

        Raises:
            UserError: there is none, or it is finished.
        """
        plan = cls.load_unfinished()
        if plan is not None:
            return plan
        if not cls.path().exists():
            raise UserError("nothing to resume here; start with: ser tune")
        raise UserError("the last tuning is finished: nothing to resume; start another with: ser tune")

    @classmethod
    def load_unfinished(cls) -> "TuneRequest | None":
        """Return the unfinished request of the working directory, None where there is none.

        Raises:
            UserError: an unknown version wrote it.
        """
        if not cls.path().exists():
            return None
        content: dict[str, Any] = read_json(cls.path())
        try:
            content |= _read_studies_of_0_1(content) if "spaces" in content else _read_studies(content)
            content["data"] = DataRequest.from_json(content["data"])
            content["overrides"] = check_overrides(content["overrides"])
            content["confirm"] = None if content["confirm"] is None else tuple(content["confirm"])
            plan = cls(**{name: value for name, value in content.items() if name not in KEYS_OF_0_1})
        except (KeyError, TypeError) as error:
            raise UserError(f"{cls.path()} is of another version; start another tuning with: ser tune") from error
        return None if all(map(plan.is_finished, plan.planned)) and not plan.uncompared_studies else plan

    @property
    def uncompared_studies(self) -> list[PlannedStudy]:
        """The studies of students that are not yet compared with their control."""
        students = [study for study in self.planned if not study.is_control and study.control in self.planned]
        folders = {study: self.find_folder(study) for study in students}
        return [study for study, folder in folders.items() if folder is None or not folder.summary.get("control")]

    def find_folder(self, study: PlannedStudy) -> StudyFolder | None:
        """Return the folder of a planned study, None before it has begun."""
        folder = StudyFolder(runs_folder() / self.study_names[study]) if study in self.study_names else None
        return folder if folder is not None and folder.has_begun else None

    def find_registered(self, client: Client, study: PlannedStudy) -> RegisteredVersion:
        """Return the registered model of a finished study."""
        folder = self.find_folder(study)
        assert folder is not None
        return find_version(client, *read_registered_model(folder.summary))

    def is_finished(self, study: PlannedStudy) -> bool:
        """Return whether a planned study is finished."""
        folder = self.find_folder(study)
        return folder is not None and folder.summary["state"] == STUDY_FINISHED

    def make_study_request(self, study: PlannedStudy) -> StudyRequest:
        """Return the request of a study: the stored one if it has begun, else one from this request."""
        folder = self.find_folder(study)
        if folder is not None:
            return read_request(folder)
        return StudyRequest(
            study.path,
            self.texts[study.path],
            self.data,
            self.overrides,
            self.trials,
            self.minutes,
            confirm=self.confirm,
            is_control=study.is_control,
            teacher=self.teacher,
            register_as=self.register_as,
        )

    def read_spaces(self) -> list[Space]:
        """Read and check all search spaces, with the user's overrides.

        Raises:
            SpaceError: one of them cannot be searched.
        """
        for study in self.planned:
            if study.path not in self.texts and self.find_folder(study) is None:
                self.texts[study.path] = read_space_text(Path(study.path))
        return [self.make_study_request(study).read_space() for study in self.planned]

    def with_control(self, *, is_required: bool) -> "TuneRequest":
        """Return the request with a control after each study with distillation.

        Args:
            is_required: whether a corpus that is too small for a control is refused.

        Raises:
            UserError: no study has distillation.
        """
        spaces = self.read_spaces()
        students = [study for study, space in zip(self.planned, spaces, strict=True) if is_distilled(space)]
        if not students:
            raise UserError("--control needs a search space with distillation; none has distill.alpha above 0")
        both = [each for study in self.planned for each in ((study, study.control) if study in students else (study,))]
        return replace(self, planned=both, needs_control=is_required)

    def drop_controls(self) -> list[Space]:
        """Remove every control from the request; return the remaining spaces."""
        self.planned = [study for study in self.planned if not study.is_control]
        self.save()
        return self.read_spaces()


def read_registered_model(summary: Mapping[str, Any]) -> tuple[str, str]:
    """Return name and version of the registered model of a study; version 0.1 wrote only their title."""
    if "registered_model" in summary:
        return summary["registered_model"]["name"], summary["registered_model"]["version"]
    name, _, version = summary["registered"].rpartition(" v")
    return name, version


def is_distilled(space: Space) -> bool:
    """Return whether any configuration of a space is a student with distillation."""
    if space.role != "student":
        return False
    axis = next((axis for axis in space.axes if axis.name == "distill.alpha"), None)
    return bool(space.fixed_settings.distill.alpha > 0 if axis is None else max(axis.values) > 0)


def _read_studies(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "planned": [PlannedStudy(**entry) for entry in content["planned"]],
        "study_names": {
            PlannedStudy(entry["path"], entry["is_control"]): entry["name"] for entry in content["study_names"]
        },
    }


def _read_studies_of_0_1(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the studies of a request of version 0.1, where the path of a control ends with "+control"."""

    def read(key: str) -> PlannedStudy:
        path = key.removesuffix("+control")
        return PlannedStudy(path, is_control=path != key)

    return {
        "planned": [read(key) for key in content["spaces"]],
        "study_names": {read(key): name for key, name in content["studies"].items()},
    }
