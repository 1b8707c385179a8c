"""The request of a study, stored in its folder at its start, so that later edits of the space file have no effect."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ser_platform.errors import UserError, WorkFailed
from ser_platform.features.dataset import DataRequest
from ser_platform.files import read_json, replacing, write_json
from ser_platform.settings import Overrides, as_json, check_overrides
from ser_platform.tuning.search_space.space import Space
from ser_platform.tuning.search_space.yaml_file import parse_space
from ser_platform.tuning.study.study_folder import StudyFolder

SPACE_FILE, REQUEST_FILE = "space.yaml", "request.json"


@dataclass(frozen=True)
class StudyRequest:
    """The request of one study.

    Attributes:
        space: path of the search space file; `text` is its content at the start of the study.
        trials, minutes, confirm: replace the values of the space if given.
        is_extended: whether `ser studies extend` extended the study; its budget of epochs is then ignored.
        is_control: whether the study is the control arm, whose students have no teacher.
        teacher: the registered model given as teacher, "" for the default.
        register_as: prefix of the names of the registered models, "" for the default.
    """

    space: str
    text: str
    data: DataRequest
    overrides: Overrides = field(default_factory=dict)
    trials: int | None = None
    minutes: float | None = None
    confirm: tuple[int, int] | None = None
    is_extended: bool = False
    is_control: bool = False
    teacher: str = ""
    register_as: str = ""

    def read_space(self) -> Space:
        """Return the search space with the request's overrides.

        Raises:
            SearchSpaceError: the space is invalid.
        """
        space = parse_space(Path(self.space), self.text)
        chosen = space.with_overrides(self.overrides, self.trials, self.minutes, self.confirm)
        chosen = chosen.without_teacher() if self.is_control else chosen
        return replace(chosen, budget=replace(chosen.budget, epochs=None)) if self.is_extended else chosen

    def save(self, folder: StudyFolder) -> None:
        """Write the request into a study's folder."""
        with replacing(folder.path / SPACE_FILE) as temporary:
            temporary.write_text(self.text, encoding="utf-8")
        content = asdict(self) | {"data": self.data.as_json(), "overrides": as_json(self.overrides)}
        del content["text"]
        write_json(folder.path / REQUEST_FILE, content)


def has_request(folder: StudyFolder) -> bool:
    """Return whether a study's folder contains its request; studies of older versions do not."""
    return (folder.path / REQUEST_FILE).exists()


def read_request(folder: StudyFolder) -> StudyRequest:
    """Return the request of a study.

    Raises:
        UserError: an older version began the study and did not store the request.
        WorkFailed: the stored request is damaged.
    """
    if not has_request(folder):
        raise UserError(
            f"{folder.name} has no copy of its search space (an older version began it); start a new one with: ser tune"
        )
    content: Mapping[str, Any] = read_json(folder.path / REQUEST_FILE)
    try:
        confirm = content["confirm"]
        return StudyRequest(
            **{
                **content,
                "text": (folder.path / SPACE_FILE).read_text(encoding="utf-8"),
                "data": DataRequest.from_json(content["data"]),
                "overrides": check_overrides(content["overrides"]),
                "confirm": None if confirm is None else tuple(confirm),
            }
        )
    except (OSError, KeyError, TypeError) as error:
        raise WorkFailed(f"{folder.path} is damaged: {SPACE_FILE} or {REQUEST_FILE} is not whole ({error})") from error
