"""The audio files that a command is given; importing this module does not import torch."""

from collections.abc import Iterable
from pathlib import Path

from ser_platform.corpora.audio.reader import RECORDING_SUFFIXES, list_audio_files
from ser_platform.errors import UserError


def find_audio_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files among `paths` and the recordings in the folders among them, sorted within a folder.

    Raises UserError where a path does not exist, or a folder has no audio.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = list_audio_files(path, RECORDING_SUFFIXES)
            if not inside:
                raise UserError(f"{path} contains no audio ({', '.join(sorted(RECORDING_SUFFIXES))})")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    return files
