"""Study folders for tests, without a corpus and a search space."""

from typing import Any

from ser_platform.settings import runs_folder
from ser_platform.tuning.study.study_folder import StudyFolder, begin_study


def create_study_folder(name: str, **summary: Any) -> StudyFolder:
    """Create the folder of a study in the working directory; an existing name gets a number."""
    n_taken = len([*runs_folder().glob(name), *runs_folder().glob(f"{name}-*")])
    return begin_study(StudyFolder(runs_folder() / (f"{name}-{n_taken + 1}" if n_taken else name)), **summary)
