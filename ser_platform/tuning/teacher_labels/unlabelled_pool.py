"""Speech without labels that joins distillation: `distill.unlabelled`. Only what a teacher says of it is learnt."""

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

FeatureNeeds = Iterable[tuple[tuple[str, ...], str]]  # feature families, and the dtype they are stored in


@dataclass(frozen=True)
class UnlabelledPool:
    """Prepared clips without labels; `name` is what the setting calls them."""

    name: str
    clips: Manifest

    @cached_property
    def hashes(self) -> tuple[str, ...]:
        """Their audio digests."""
        return tuple(self.clips.column("audio_sha256"))

    @property
    def lineage(self) -> Lineage:
        """What a model that has learnt from them has heard."""
        return Lineage.of_clips(self.clips)

    @property
    def fingerprint(self) -> str:
        """Tells them from others under the same name."""
        return digest_of(sorted(self.hashes), 16)

    def refuse_overlap(self, split: Split) -> None:
        """Refuse clips of a split, under whatever name, and others of its speakers.

        Training clips too: dev speakers rotate, and whoever trains now is judged on then.

        Raises:
            LineageLeak: names the files.
        """
        digests, speakers = self.clips.column("audio_sha256"), self.clips.column("speaker")
        for part, rows in reversed(split.parts.items()):
            judged = split.manifest.take(rows)
            same = np.isin(digests, judged.column("audio_sha256").tolist())
            overlap = np.flatnonzero(same | np.isin(speakers, judged.speakers))
            if len(overlap):
                ids = self.clips.column("id")[overlap]
                more = f" and {len(ids) - MAX_LISTED_CLIPS} more" if len(ids) > MAX_LISTED_CLIPS else ""
                raise LineageLeak(
                    f"distill.unlabelled {self.name} holds {int(same.sum())} {part} clips of this corpus, or others of "
                    f"its {part} speakers: {', '.join(ids[:MAX_LISTED_CLIPS])}{more}; take them out"
                )


def prepare_unlabelled(
    name: str, feature_needs: FeatureNeeds, splits: Iterable[Split], show_progress: ShowProgress
) -> UnlabelledPool:
    """Find and decode speech without labels, and store the features that students and teachers hear.

    Raises:
        UserError: there is no such folder, or no audio in it that can be read.
        LineageLeak: it holds clips of one of `splits`, or others of its speakers.
    """
    clips = read_unlabelled_speech(name)
    with show_progress(f"{name}: files decoded") as progress:
        for families, dtype in feature_needs:
            clips = prepare_features(clips, families, progress=progress, dtype=dtype, mapper=choose_mapper()).manifest
    first = np.unique(clips.column("audio_sha256"), return_index=True)[1]
    if not len(first):
        raise CorpusError(f"distill.unlabelled {name}: no clip in it can be read")
    pool = UnlabelledPool(name, clips.take(np.sort(first)))
    for split in splits:
        pool.refuse_overlap(split)
    return pool
