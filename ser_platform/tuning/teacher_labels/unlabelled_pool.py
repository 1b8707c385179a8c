"""Unlabelled speech for distillation (`distill.unlabelled`): its clips have teacher outputs, but no targets."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ser_platform.corpora.lineage import MAX_LISTED_CLIPS, Lineage, LineageLeak
from ser_platform.corpora.manifest import Manifest
from ser_platform.corpora.splits.split import Split
from ser_platform.corpora.unlabelled_speech import read_unlabelled_speech
from ser_platform.errors import CorpusError
from ser_platform.features.store.feature_store import prepare_features
from ser_platform.files import digest_of
from ser_platform.tuning.execution.fit_pool import ShowProgress
from ser_platform.tuning.execution.remote_extraction import choose_mapper

FeatureNeed = tuple[tuple[str, ...], str]  # feature families, and the dtype in which they are stored


@dataclass(frozen=True)
class UnlabelledPool:
    """Prepared clips without labels; `name` is the value of the setting."""

    name: str
    clips: Manifest

    @cached_property
    def hashes(self) -> tuple[str, ...]:
        """The audio digests of the clips."""
        return tuple(self.clips.column("audio_sha256"))

    @property
    def lineage(self) -> Lineage:
        """The lineage of a model that is trained on the clips."""
        return Lineage.of_clips(self.clips)

    @property
    def fingerprint(self) -> str:
        """A digest of the clips, for a name whose clips may change."""
        return digest_of(sorted(self.hashes), 16)

    def refuse_overlap(self, split: Split) -> None:
        """Raise LineageLeak if the pool contains clips of a split, compared by audio, or others of its speakers.

        Training clips count too: dev speakers rotate, so that a training speaker can become a dev speaker.
        """
        digests, speakers = self.clips.column("audio_sha256"), self.clips.column("speaker")
        for part, rows in reversed(split.parts.items()):
            clips = split.manifest.take(rows)
            same = np.isin(digests, clips.column("audio_sha256").tolist())
            overlap = np.flatnonzero(same | np.isin(speakers, clips.speakers))
            if len(overlap):
                ids = self.clips.column("id")[overlap]
                more = f" and {len(ids) - MAX_LISTED_CLIPS} more" if len(ids) > MAX_LISTED_CLIPS else ""
                raise LineageLeak(
                    f"distill.unlabelled {self.name} contains {int(same.sum())} {part} clips of this corpus, or others "
                    f"of its {part} speakers: {', '.join(ids[:MAX_LISTED_CLIPS])}{more}; remove them"
                )


def prepare_unlabelled(
    name: str, feature_needs: Iterable[FeatureNeed], splits: Iterable[Split], show_progress: ShowProgress
) -> UnlabelledPool:
    """Decode unlabelled speech and store its features for the students and teachers that use it.

    Raises:
        UserError: the folder does not exist or contains no readable audio.
        LineageLeak: it contains clips of one of `splits`, or others of its speakers.
    """
    clips = read_unlabelled_speech(name)
    with show_progress(f"{name}: files decoded") as progress:
        for families, dtype in feature_needs:
            clips = prepare_features(clips, families, progress=progress, dtype=dtype, mapper=choose_mapper()).manifest
    first = np.unique(clips.column("audio_sha256"), return_index=True)[1]
    if not len(first):
        raise CorpusError(f"distill.unlabelled {name}: no clip can be read")
    pool = UnlabelledPool(name, clips.take(np.sort(first)))
    for split in splits:
        pool.refuse_overlap(split)
    return pool
