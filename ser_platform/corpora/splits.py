"""Train / dev / test by speaker: a split that leaks cannot be built.

Dev chooses, test reports. Each split carries its protocol and fingerprints, which are stamped on runs and models.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.manifest import Manifest
from ser_platform.errors import CorpusError
from ser_platform.files import digest_of

HELD_OUT_SHARE = 1 / 6  # of the speakers, for dev and for test each
ATTEMPTS = 500  # shuffles tried for classes covered everywhere

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Row numbers of `manifest` for each part. Raises CorpusError when a speaker or a clip is in two of them."""

    manifest: Manifest
    train: Indices
    dev: Indices
    test: Indices
    seed: int
    protocol: str = "speaker"

    def __post_init__(self) -> None:
        for column, what in (("speaker", "speakers"), ("audio_sha256", "the same audio")):
            self._refuse_shared(column, what)
        missing = set(self.manifest.labels) - set(self.manifest.column("emotion")[self.train])
        if missing:
            raise CorpusError(f"no training clip of {', '.join(sorted(missing))}; training needs every emotion")

    def _refuse_shared(self, column: str, what: str) -> None:
        values = self.manifest.column(column)
        seen: dict[str, str] = {}
        for part, rows in self.parts.items():
            for value in {value for value in values[rows] if value is not None}:
                if seen.setdefault(value, part) != part:
                    rows_with = np.flatnonzero(values == value)
                    clips = ", ".join(self.manifest.column("id")[rows_with[:4]])
                    raise CorpusError(f"{what} in both {seen[value]} and {part}: {value[:24]} ({clips})")

    @property
    def parts(self) -> dict[str, Indices]:
        return {"train": self.train, "dev": self.dev, "test": self.test}

    def speakers(self, part: str) -> tuple[str, ...]:
        """Return the speakers of `part` ("train", "dev" or "test"), sorted."""
        return tuple(sorted(set(self.manifest.column("speaker")[self.parts[part]])))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the corpus and of who is where."""
        assignment = {part: sorted(self.manifest.column("id")[rows]) for part, rows in self.parts.items()}
        return digest_of({"manifest": self.manifest.fingerprint, "protocol": self.protocol, "parts": assignment})

    @cached_property
    def test_fingerprint(self) -> str:
        """SHA-256, in hex, of the test clips and their labels; the key of the test ledger."""
        test = self.manifest.take(self.test)
        return digest_of(sorted(zip(test.column("audio_sha256"), test.column("emotion"), strict=True)))

    @property
    def gaps(self) -> list[str]:
        """Emotions that dev or test lack, in words."""
        emotions = self.manifest.column("emotion")
        missing = {part: set(self.manifest.labels) - set(emotions[rows]) for part, rows in self.parts.items()}
        return [f"{part} has no {', '.join(sorted(lacking))}" for part, lacking in missing.items() if lacking]

    def with_dev(self, dev_speakers: tuple[str, ...]) -> "Split":
        """Return a split with the same test speakers and these dev speakers, the rest of train and dev for training."""
        pool = np.sort(np.concatenate([self.train, self.dev]))
        is_dev = np.isin(self.manifest.column("speaker")[pool], dev_speakers)
        return Split(self.manifest, pool[~is_dev], pool[is_dev], self.test, self.seed, self.protocol)


def split_by_speaker(manifest: Manifest, seed: int = 0) -> Split:
    """Split by speaker, with both sexes in dev and test where known and every emotion everywhere where possible.

    Raises:
        CorpusError: fewer than three speakers, or no choice of speakers leaves every emotion in train.
    """
    speakers = manifest.speakers
    if len(speakers) < 3:
        raise CorpusError(f"{len(speakers)} speakers; train, dev and test need at least one each")
    n_held_out = min(max(2, round(len(speakers) * HELD_OUT_SHARE)), (len(speakers) - 1) // 2)
    by_speaker = _emotions_of_speakers(manifest)
    every = set(manifest.labels)
    rng = np.random.default_rng(seed)
    best: tuple[int, list[str], list[str]] | None = None
    for _ in range(ATTEMPTS):
        order = _balanced_order(manifest, rng)
        test, dev, train = order[:n_held_out], order[n_held_out : 2 * n_held_out], order[2 * n_held_out :]
        lacking = [len(every - set().union(*(by_speaker[s] for s in part))) for part in (train, dev, test)]
        if lacking[0] == 0 and (best is None or sum(lacking) < best[0]):
            best = (sum(lacking), dev, test)
            if sum(lacking) == 0:
                break
    if best is None:
        raise CorpusError("some emotion is spoken by too few speakers: no speaker-disjoint split leaves all in train")
    _, dev, test = best
    speaker = manifest.column("speaker")
    in_dev, in_test = np.isin(speaker, dev), np.isin(speaker, test)
    rows = np.arange(len(manifest))
    return Split(manifest, rows[~in_dev & ~in_test], rows[in_dev], rows[in_test], seed)


def training_groups(split: Split) -> list[tuple[str, ...]]:
    """Deal the training speakers into groups about as large as dev, both sexes in each where there are enough."""
    train, dev = split.speakers("train"), split.speakers("dev")
    order = _balanced_order(split.manifest.take(split.train), np.random.default_rng(split.seed))
    size = -(-len(order) // max(2, round(len(train) / len(dev))))
    return [tuple(sorted(order[first : first + size])) for first in range(0, len(order), size)]


def _emotions_of_speakers(manifest: Manifest) -> dict[str, set[str]]:
    emotions: dict[str, set[str]] = {speaker: set() for speaker in manifest.speakers}
    for speaker, emotion in zip(manifest.column("speaker"), manifest.column("emotion"), strict=True):
        emotions[speaker].add(emotion)
    return emotions


def _balanced_order(manifest: Manifest, rng: np.random.Generator) -> list[str]:
    """Return the speakers shuffled, the sexes taking turns as long as both last."""
    sexes = dict(zip(manifest.column("speaker"), manifest.column("sex"), strict=True))
    piles: dict[str, list[str]] = {}
    for speaker in rng.permutation(manifest.speakers):
        piles.setdefault(str(sexes[speaker]), []).append(str(speaker))
    order: list[str] = []
    while any(piles.values()):
        order += [piles[sex].pop() for sex in sorted(piles) if piles[sex]]
    return order
