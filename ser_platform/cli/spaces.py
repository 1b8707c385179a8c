"""Search spaces by name: the shipped ones, and those in search_spaces/ of the working directory."""

from pathlib import Path

from ser_platform.cli.output import print_json, print_table
from ser_platform.errors import SearchSpaceError, UnknownChoice
from ser_platform.shipped_folders import find_shipped

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


def check_space(name: str) -> None:
    """Read the file of a search space with this name or path.

    Raises:
        UnknownChoice: no search space has this name.
        SearchSpaceError: the file cannot be read, or something in it is invalid.
    """
    from ser_platform.tuning.search_space.yaml_file import read_space

    read_space(space_path(name))


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
