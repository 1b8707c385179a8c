"""Folders of sounds that a user gives: noise, impulse responses. They are known by what they hold, and have a past.

A noise recording that is a clip of dev or test would be learnt from: `refuse_leaking_sounds` asks. It finds the same
decoded samples, so neither a clip coded anew nor an utterance inside a longer recording.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.audio.reader import AUDIO_SUFFIXES, MAX_CLIP_S, Audio, list_audio_files, read_audio
from ser_platform.corpora.lineage import AUDIO_DIGEST_DIGITS, Lineage, refuse_leak
from ser_platform.corpora.splits.split import Split
from ser_platform.errors import UserError, WorkFailed
from ser_platform.files import digest_of

MAX_CACHED_SOUNDS = 16  # kept decoded: at most 2 minutes each, 8 MB at 16 kHz


@dataclass(frozen=True)
class SoundFolder:
    """The sounds in a folder, of each at most the first two minutes.

    Attributes:
        folder: where they lie; not part of the digest.
        digests: of their decoded samples, sorted: the order in which they are drawn, whatever the files are called.
        paths: their files, in that order.
    """

    folder: Path
    digests: tuple[str, ...]
    paths: tuple[Path, ...]

    @classmethod
    def read(cls, folder: Path) -> "SoundFolder":
        """Read every sound under `folder`; the same samples twice count once.

        Raises:
            UserError: there is none.
            BadAudio: one cannot be used.
        """
        found = {_read(path).sha256: path for path in reversed(list_audio_files(folder))}
        if not found:
            raise UserError(f"{folder}: no sounds; valid are files with {', '.join(sorted(AUDIO_SUFFIXES))}")
        digests = tuple(sorted(found))
        return cls(folder, digests, tuple(found[digest] for digest in digests))

    @cached_property
    def digest(self) -> str:
        """A digest of what the folder holds."""
        return digest_of(self.digests, 32)

    @property
    def lineage(self) -> Lineage:
        """The past of whatever is trained with these sounds; they name no speakers."""
        return Lineage(trained_audio=tuple(digest[:AUDIO_DIGEST_DIGITS] for digest in self.digests))

    def draw(self, sample_rate: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return one of the sounds, `(n_samples,)` at a rate in Hz.

        Raises:
            WorkFailed: its file has changed since the folder was read.
        """
        number = int(rng.integers(len(self.digests)))
        return _sound(self.paths[number], self.digests[number], sample_rate)


def read_sound_lineage(folder: Path) -> Lineage:
    """Return the past of whatever is trained with the sounds in `folder`."""
    return SoundFolder.read(folder).lineage


def refuse_leaking_sounds(sounds: SoundFolder, split: Split) -> None:
    """Refuse sounds among which is a dev or test clip.

    Raises:
        LineageLeak: names the clips.
    """
    refuse_leak(sounds.lineage, split, f"the sound folder {sounds.folder}")


def _read(path: Path) -> Audio:
    return read_audio(path, end_s=MAX_CLIP_S)


@lru_cache(maxsize=MAX_CACHED_SOUNDS)
def _sound(path: Path, digest: str, sample_rate: int) -> NDArray[np.float32]:
    audio = _read(path)
    if audio.sha256 != digest:
        raise WorkFailed(f"{path} has changed since its folder was read; start again")
    samples = audio.resample(sample_rate)
    samples.flags.writeable = False  # shared by every call
    return samples
