"""Search spaces by name: the shipped ones, and those in search_spaces/ of the working directory."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ser_platform.cli.output import make_console, print_json, print_table
from ser_platform.errors import SearchSpaceError, UnknownChoice
from ser_platform.shipped_folders import find_shipped

if TYPE_CHECKING:
    from ser_platform.tuning.search_space.space import Space

SPACES_FOLDER = Path("search_spaces")


def known_spaces() -> dict[str, Path]:
    """Return every search-space file by name; a file of the working directory replaces a shipped one."""
    from ser_platform.tuning.search_space.yaml_file import find_space_files

    return find_space_files(find_shipped("search_spaces")) | find_space_files(Path.cwd() / SPACES_FOLDER)


def space_path(name: str) -> Path:
    """Return the file of a search space with this name or path.

    Raises:
        UnknownChoice: no search space has this name.
    """
    path = Path(name)
    if path.suffix == ".yaml":
        return path.absolute()
    known = known_spaces()
    if name not in known:
        raise UnknownChoice("search space", name, [*known, "or a .yaml file"])
    return known[name].resolve()


def read_spaces(names: Sequence[str]) -> "list[Space]":
    """Return the search spaces with these names or paths.

    Raises:
        UnknownChoice: no search space has one of the names.
        SearchSpaceError: a file cannot be read, or something in it is invalid; has every mistake of every file.
    """
    from ser_platform.tuning.search_space.yaml_file import read_space

    spaces: list[Space] = []
    mistakes: list[str] = []
    for path in map(space_path, names):
        try:
            spaces.append(read_space(path))
        except SearchSpaceError as error:
            mistakes += error.lines
    if mistakes:
        raise SearchSpaceError(*mistakes)
    return spaces


def describe_space(space: "Space") -> dict[str, Any]:
    """Return what a search of a space does, for JSON."""
    from ser_platform.settings import as_json

    return {
        "name": space.name,
        "role": space.role,
        "axes": [{"name": axis.name, "domain": axis.description, "when": as_json(axis.when)} for axis in space.axes],
        "base": as_json(space.base),
        "points": [as_json(point) for point in space.points],
        "objectives": [asdict(objective) for objective in space.objectives],
        "constraints": [asdict(constraint) for constraint in space.constraints],
        **{name: asdict(getattr(space, name)) for name in ("budget", "confirmation", "sampler", "scheduler")},
    }


def print_spaces(spaces: "Sequence[Space]", *, as_json: bool) -> None:
    """Print what a search of each space does: axes, fixed settings, budget, sampler and scheduler."""
    if as_json:
        print_json([describe_space(space) for space in spaces])
        return
    out = make_console()
    for space in spaces:
        out.print(f"{space.name}: valid; searches a {space.role}")
        for axis in space.axes:
            parents = " and ".join(f"{name} is {_join(valid)}" for name, valid in axis.when.items())
            out.print(f"  {axis.name}: {axis.description}{parents and f', only where {parents}'}")
        budget, confirm = space.budget, space.confirmation
        epochs = "" if budget.epochs is None else f", {budget.epochs} epochs"
        limits = [
            f"{each.metric} {sign} {bound:g}"
            for each in space.constraints
            for sign, bound in ((">=", each.at_least), ("<=", each.at_most))
            if bound is not None
        ]
        for title, text in (
            ("fixed", ", ".join(f"{name} {_join(value)}" for name, value in space.base.items())),
            ("budget", f"{budget.trials} trials, {budget.minutes:g} minutes{epochs}, whatever is used up first"),
            ("confirmation", f"the best {confirm.trials}, each with {confirm.seeds} new seeds"),
            ("tried first", f"{len(space.points)} points" if space.points else ""),
            ("objective", ", ".join(f"{each.direction} {each.metric}" for each in space.objectives)),
            ("constraints", ", ".join(limits)),
            ("search", f"sampler {space.sampler.name}, scheduler {space.scheduler.name}"),
        ):
            if text:
                out.print(f"{title}: {text}")


def _join(value: Any) -> str:
    return " or ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def list_spaces(*, as_json: bool) -> None:
    """Print name, role, question and number of trials of every search space."""
    from ser_platform.tuning.search_space.yaml_file import read_question, read_space

    rows: list[dict[str, object]] = []
    for name, path in sorted(known_spaces().items()):
        try:
            space = read_space(path)
        except SearchSpaceError as error:
            rows.append({"name": name, "role": None, "question": f"cannot be read: {error}", "trials": None})
            continue
        question = read_question(path)
        rows.append({"name": name, "role": space.role, "question": question, "trials": space.budget.trials})
    if as_json:
        print_json(rows)
        return
    cells = [["-" if value is None else str(value) for value in row.values()] for row in rows]
    print_table("Search spaces", ["name", "role", "question", "trials"], cells)
