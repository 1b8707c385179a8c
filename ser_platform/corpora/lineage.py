"""Lineage: the speakers and clips that a model and its ancestors were trained on, and the check for leaks.

The scores of a model are too good where its teacher, its initial weights, its warm start, its unlabelled audio or its
noise contains a speaker or a clip of dev or test. `refuse_leak` and `count_leak` check each of these.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ser_platform.corpora.manifest import Manifest
from ser_platform.corpora.splits.split import Split
from ser_platform.errors import CorpusError

AUDIO_DIGEST_DIGITS = 16  # hex digits kept of an audio digest: 64 bits distinguish a few million clips
MAX_LISTED_CLIPS = 4  # clips that a refusal lists
LINEAGE_LEAK_STAMP = "lineage leak"  # the stamp of a result whose leak was allowed


class LineageLeak(CorpusError):
    """A model or one of its ancestors was trained on dev or test clips, or on their speakers."""


@dataclass(frozen=True)
class Lineage:
    """The speakers and audio digests that a model and its ancestors were trained and selected on, sorted."""

    trained_speakers: tuple[str, ...] = ()
    trained_audio: tuple[str, ...] = ()
    selected_speakers: tuple[str, ...] = ()
    selected_audio: tuple[str, ...] = ()

    @classmethod
    def of_split(cls, split: Split) -> "Lineage":
        """Return the lineage of a model that is trained on the train part of a split and selected on dev."""
        train, dev = split.manifest.take(split.train), split.manifest.take(split.dev)
        return cls(train.speakers, _shorten_digests(train), dev.speakers, _shorten_digests(dev))

    @classmethod
    def of_clips(cls, clips: Manifest) -> "Lineage":
        """Return the lineage of a model that is trained on all of `clips`."""
        return cls(clips.speakers, _shorten_digests(clips))

    def union(self, other: "Lineage") -> "Lineage":
        """Return the lineage of a model that descends from both lineages."""
        mine, others = asdict(self), asdict(other)
        return Lineage(**{name: tuple(sorted({*mine[name], *others[name]})) for name in mine})

    def shares_audio(self, other: "Lineage") -> bool:
        """Return whether the models of both lineages were trained or selected on a clip in common."""
        return not {*self.trained_audio, *self.selected_audio}.isdisjoint((*other.trained_audio, *other.selected_audio))

    def find_overlap(self, clips: Manifest, *, include_selected: bool = True) -> list[str]:
        """Return the ids of those `clips` whose audio or speaker the model was trained (or selected) on."""
        speakers, audio = set(self.trained_speakers), set(self.trained_audio)
        if include_selected:
            speakers, audio = speakers.union(self.selected_speakers), audio.union(self.selected_audio)
        ids = clips.column("id")
        same_speaker = np.isin(clips.column("speaker"), sorted(speakers))
        digests = [(digest or "")[:AUDIO_DIGEST_DIGITS] for digest in clips.column("audio_sha256")]
        same_audio = np.array([digest in audio for digest in digests], dtype=bool)
        return [str(clip) for clip in ids[same_speaker | same_audio]]


def refuse_leak(lineage: Lineage, split: Split, what: str, parts: Sequence[str] = ("dev", "test")) -> None:
    """Refuse a lineage that contains a clip of `parts`, or its speaker.

    In dev, only training counts as a leak: the trials of a study are all selected on the same dev. In test, selection
    counts too.

    Args:
        what: the subject of the message, such as "teacher ser-teacher v3".

    Raises:
        LineageLeak: there is a leak; the message lists the clips.
    """
    for part in parts:
        clips = split.manifest.take(split.parts[part])
        refuse_overlap(lineage.find_overlap(clips, include_selected=part == "test"), clips, what, part)


def count_leak(lineage: Lineage, split: Split, what: str, *, selected_on_dev: bool, allow: bool) -> int:
    """Return the number of dev and test clips whose audio or speaker is in a lineage.

    Args:
        what: the subject of the message, such as "--init ser-teacher v3".
        selected_on_dev: whether selection counts in dev too, as it does in test.
        allow: return the number of clips instead of refusing them.

    Raises:
        LineageLeak: there is a leak and `allow` is False; the message lists the clips.
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
    """Raise LineageLeak where `overlap` is not empty; the message ends with `override_hint`.

    Args:
        overlap: ids of some of `clips`, from `Lineage.find_overlap`.
    """
    ids = list(overlap)
    if ids:
        inside = clips.take(np.flatnonzero(np.isin(clips.column("id"), ids)))
        more = f" and {len(ids) - MAX_LISTED_CLIPS} more" if len(ids) > MAX_LISTED_CLIPS else ""
        clips_of = "clips" if part == "all" else f"{part} clips"
        raise LineageLeak(
            f"{what} was trained or selected on {len(ids)} of the {len(clips)} {clips_of} or their speakers "
            f"({', '.join(inside.speakers[:MAX_LISTED_CLIPS])}): "
            f"{', '.join(ids[:MAX_LISTED_CLIPS])}{more}{override_hint}"
        )


def _shorten_digests(clips: Manifest) -> tuple[str, ...]:
    return tuple(sorted(digest[:AUDIO_DIGEST_DIGITS] for digest in clips.column("audio_sha256") if digest))
