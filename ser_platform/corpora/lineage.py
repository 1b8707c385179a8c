"""Lineage: whom a model, and all it descends from, has heard; and the one check that it is not tested on them.

A teacher, an initialisation, a warm start, unlabelled audio or noise that has seen a speaker or a clip of the present
dev or test makes its figures too good. Whatever has a past goes through `refuse_leak`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ser_platform.corpora.manifest import Manifest
from ser_platform.corpora.splits.split import Split
from ser_platform.errors import CorpusError

AUDIO_DIGEST_DIGITS = 16  # hex digits of an audio digest that are kept: 64 bits tell a few million clips apart
MAX_LISTED_CLIPS = 4  # clips that a refusal lists
LINEAGE_LEAK_STAMP = "lineage leak"  # what is stamped where a leak was allowed


class LineageLeak(CorpusError):
    """Something in a model's past has heard what it is judged on."""


@dataclass(frozen=True)
class Lineage:
    """Whom a model, and every model before it, was trained and selected on: speakers and audio digests, sorted."""

    trained_speakers: tuple[str, ...] = ()
    trained_audio: tuple[str, ...] = ()
    selected_speakers: tuple[str, ...] = ()
    selected_audio: tuple[str, ...] = ()

    @classmethod
    def of_split(cls, split: Split) -> "Lineage":
        """Return the lineage of a model that is trained on a split's train and selected on its dev."""
        train, dev = split.manifest.take(split.train), split.manifest.take(split.dev)
        return cls(train.speakers, _shorten_digests(train), dev.speakers, _shorten_digests(dev))

    @classmethod
    def of_clips(cls, clips: Manifest) -> "Lineage":
        """Return the lineage of what was trained on these clips: unlabelled audio, noise, a corpus as a whole."""
        return cls(clips.speakers, _shorten_digests(clips))

    def union(self, other: "Lineage") -> "Lineage":
        """Return the lineage of a model that descends from both."""
        mine, others = asdict(self), asdict(other)
        return Lineage(**{name: tuple(sorted({*mine[name], *others[name]})) for name in mine})

    def find_overlap(self, clips: Manifest, *, include_selected: bool = True) -> list[str]:
        """Return the ids of the clips, or of their speakers' clips, that this past was trained (or selected) on."""
        speakers, audio = set(self.trained_speakers), set(self.trained_audio)
        if include_selected:
            speakers, audio = speakers.union(self.selected_speakers), audio.union(self.selected_audio)
        ids = clips.column("id")
        same_speaker = np.isin(clips.column("speaker"), sorted(speakers))
        digests = [(digest or "")[:AUDIO_DIGEST_DIGITS] for digest in clips.column("audio_sha256")]
        same_audio = np.array([digest in audio for digest in digests], dtype=bool)
        return [str(clip) for clip in ids[same_speaker | same_audio]]


def refuse_leak(lineage: Lineage, split: Split, what: str, parts: Sequence[str] = ("dev", "test")) -> None:
    """Refuse something whose past has heard a speaker or a clip of `parts`.

    Dev may have selected what is judged on dev again, as a study's own trials are; it may not have trained it.

    Args:
        what: names the culprit in the refusal, like "teacher ser-teacher v3".

    Raises:
        LineageLeak: names the clips.
    """
    for part in parts:
        clips = split.manifest.take(split.parts[part])
        refuse_overlap(lineage.find_overlap(clips, include_selected=part == "test"), clips, what, part)


def count_leak(lineage: Lineage, split: Split, what: str, *, selected_on_dev: bool, allow: bool) -> int:
    """Return how many dev and test clips of a split are of a lineage, or of its speakers; refuse them unless allowed.

    Args:
        what: names the culprit in the refusal, like "--init ser-teacher v3".
        selected_on_dev: whether a speaker that only selected counts in dev too, as it does in test.
        allow: return the count of a leak in place of refusing it.

    Raises:
        LineageLeak: there are any, and `allow` is not set; names the clips.
    """
    count = 0
    for part in ("dev", "test"):
        clips = split.manifest.take(split.parts[part])
        leaked = lineage.find_overlap(clips, include_selected=selected_on_dev or part == "test")
        if not allow:
            refuse_overlap(leaked, clips, what, part, "; --allow-leak goes on and stamps the result")
        count += len(leaked)
    return count


def refuse_overlap(overlap: Iterable[str], clips: Manifest, what: str, part: str, override_hint: str = "") -> None:
    """Raise LineageLeak where `heard` names any of `clips`; `override_hint` tells how to go on in spite of it."""
    ids = list(overlap)
    if ids:
        inside = clips.take(np.flatnonzero(np.isin(clips.column("id"), ids)))
        more = f" and {len(ids) - MAX_LISTED_CLIPS} more" if len(ids) > MAX_LISTED_CLIPS else ""
        clips_of = "clips" if part == "all" else f"{part} clips"
        raise LineageLeak(
            f"{what} has heard {len(ids)} of the {len(clips)} {clips_of} or their speakers "
            f"({', '.join(inside.speakers[:MAX_LISTED_CLIPS])}): "
            f"{', '.join(ids[:MAX_LISTED_CLIPS])}{more}{override_hint}"
        )


def _shorten_digests(clips: Manifest) -> tuple[str, ...]:
    return tuple(sorted(digest[:AUDIO_DIGEST_DIGITS] for digest in clips.column("audio_sha256") if digest))
