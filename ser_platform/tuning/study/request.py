"""What a study was asked for, kept in its folder when it begins: a file that is edited later changes nothing of it."""

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
        space: the file that the search space was read from; `text` what it said then.
        trials, minutes, confirm: in place of the space's own.
        is_extended: by `extend`; a budget of epochs then no longer ends the search.
        is_control: of the students that learn without a teacher.
        teacher: the registered model that students learn from, where one was named.
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

    def read_space(self) -> Space:
        """Return the search space as it is asked for.

        Raises:
            SpaceError: it cannot be searched.
        """
        space = parse_space(Path(self.space), self.text)
        chosen = space.with_overrides(self.overrides, self.trials, self.minutes, self.confirm)
        chosen = chosen.without_teacher() if self.is_control else chosen
        return replace(chosen, budget=replace(chosen.budget, epochs=None)) if self.is_extended else chosen

    def save(self, folder: StudyFolder) -> None:
        """Keep the request in a study's folder."""
        with replacing(folder.path / SPACE_FILE) as temporary:
            temporary.write_text(self.text, encoding="utf-8")
        content = asdict(self) | {"data": self.data.as_json(), "overrides": as_json(self.overrides)}
        del content["text"]
        write_json(folder.path / REQUEST_FILE, content)


def has_request(folder: StudyFolder) -> bool:
    """Tell whether a study's folder says what was asked for; one begun by an older version does not."""
    return (folder.path / REQUEST_FILE).exists()


def read_request(folder: StudyFolder) -> StudyRequest:
    """Return what a study was asked for.

    Raises:
        UserError: it was begun by a version that did not keep it.
        WorkFailed: what it keeps is damaged.
    """
    if not has_request(folder):
        raise UserError(
            f"{folder.name} keeps no copy of its search space (an older version began it); start another with: ser tune"
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
