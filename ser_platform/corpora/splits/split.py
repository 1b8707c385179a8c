"""A train / dev / test split, with each speaker and each clip in one part, or with a stamp that names the leak.

Models are selected on dev and reported on test. The protocol and the fingerprints of a split are stamped on runs and
models. `protocols` makes splits.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ser_platform.corpora.manifest import UNKNOWN, Manifest
from ser_platform.errors import CorpusError
from ser_platform.files import digest_of

HELD_OUT_SHARE = 1 / 6  # of the speakers for dev, and the same for test
MAX_SHUFFLES = 500  # random orders that are tried until every part has every emotion
PARTS = ("train", "dev", "test")
SPEAKERS_OVERLAP, SPEAKERS_UNKNOWN = "speakers overlap", "speakers unknown"
CLIPS_OVERLAP, CLIPS_WITH_TWO_SPEAKERS = "clips overlap", "clips under two speakers"
ALL_LEAKS = frozenset({SPEAKERS_OVERLAP, SPEAKERS_UNKNOWN, CLIPS_OVERLAP, CLIPS_WITH_TWO_SPEAKERS})

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """The row numbers of `manifest` for each part.

    Attributes:
        seed: the seed of the choice of dev, and of test where the protocol does not fix it.
        protocol: the protocol as users write it; `protocol_stamp` adds the leaks.
        fold: the number of the fold, such as "2/5"; empty where there is one split.
        allowed_leaks: a subset of `ALL_LEAKS`.

    Raises:
        CorpusError: a speaker or a clip is in two parts, a clip has two speakers, or an emotion has no training clip;
            the message names them.
    """

    manifest: Manifest
    train: Indices
    dev: Indices
    test: Indices
    seed: int
    protocol: str = "speaker"
    fold: str = ""
    allowed_leaks: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for leak in self.leaks:
            if leak not in self.allowed_leaks:
                raise CorpusError(self._describe_leak(leak))
        missing = self._find_missing_emotions(self.train)
        if missing:
            raise CorpusError(f"no training clip of {', '.join(missing)}; training needs every emotion")

    @property
    def parts(self) -> dict[str, Indices]:
        return {"train": self.train, "dev": self.dev, "test": self.test}

    @cached_property
    def leaks(self) -> tuple[str, ...]:
        """Those of `ALL_LEAKS` that the split has; unknown speakers count as a leak."""
        found = []
        if shared := self._find_shared_values("speaker"):
            is_unknown = any(speaker.endswith(f"-{UNKNOWN}") for speaker in shared)
            found.append(SPEAKERS_UNKNOWN if is_unknown else SPEAKERS_OVERLAP)
        if self._find_shared_values("audio_sha256"):
            found.append(CLIPS_OVERLAP)
        if len(self._clips_with_two_speakers):
            found.append(CLIPS_WITH_TWO_SPEAKERS)
        return tuple(found)

    @cached_property
    def _clips_with_two_speakers(self) -> Indices:
        """Rows whose audio also occurs with another speaker: one of the labels is wrong, and the clip counts twice."""
        audio, _ = self.manifest.encode_column("audio_sha256")
        speakers, _ = self.manifest.encode_column("speaker")
        order = np.lexsort((speakers, audio))
        same = (audio[order][1:] == audio[order][:-1]) & (audio[order][1:] >= 0)
        differ = np.flatnonzero(same & (speakers[order][1:] != speakers[order][:-1]))
        return np.sort(np.concatenate([order[differ], order[differ + 1]]))

    @property
    def protocol_stamp(self) -> str:
        """The protocol, its fold and its leaks, which are stamped on every run, figure and bundle."""
        name = f"{self.protocol} fold {self.fold}" if self.fold else self.protocol
        return f"{name} ({', '.join(self.leaks)})" if self.leaks else name

    def _find_shared_values(self, column: str) -> list[str]:
        """Return the values of a text column that are in more than one part, sorted."""
        parts = sum(self.manifest.find_present_values(column, rows).astype(np.int64) for rows in self.parts.values())
        values = self.manifest.encode_column(column)[1]
        return [values[code] for code in np.flatnonzero(np.asarray(parts) > 1)]

    def _describe_leak(self, leak: str) -> str:
        if leak == CLIPS_WITH_TWO_SPEAKERS:
            doubled = self.manifest.take(self._clips_with_two_speakers)
            named = ", ".join(f"{clip.id} ({clip.speaker})" for clip in itertools.islice(doubled, 4))
            return f"the same audio under two speakers in {len(doubled)} clips: {named}"
        column, what = ("audio_sha256", "the same audio") if leak == CLIPS_OVERLAP else ("speaker", "speakers")
        values = self._find_shared_values(column)
        value = values[0]
        codes, names = self.manifest.encode_column(column)
        rows = np.flatnonzero(codes == names.index(value))
        found = [part for part in PARTS if np.isin(rows, self.parts[part]).any()]
        ids = self.manifest.column("id")
        clips = ", ".join(next(ids[row] for row in rows if row in self.parts[part]) for part in found)
        more = f"; and {len(values) - 1} more" if len(values) > 1 else ""
        return f"{what} in both {found[0]} and {found[1]}: {value[:24]} ({clips}){more}"

    def speakers(self, part: str) -> tuple[str, ...]:
        """Return the speakers of `part` ("train", "dev" or "test"), sorted."""
        names = self.manifest.speakers
        return tuple(
            names[code] for code in np.flatnonzero(self.manifest.find_present_values("speaker", self.parts[part]))
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the manifest, the protocol and the ids in each part."""
        ids = self.manifest.table.column("id")
        assignment = {part: ids.take(pa.array(rows)).sort().to_pylist() for part, rows in self.parts.items()}
        return digest_of({"manifest": self.manifest.fingerprint, "protocol": self.protocol, "parts": assignment})

    @cached_property
    def test_fingerprint(self) -> str:
        """SHA-256, in hex, of the test clips and their labels; the key of the test ledger."""
        return fingerprint_clips(self.manifest.take(self.test))

    @property
    def missing_emotions(self) -> list[str]:
        """One sentence for dev and for test where they lack emotions."""
        lacking = {part: self._find_missing_emotions(rows) for part, rows in self.parts.items()}
        return [f"{part} has no {', '.join(emotions)}" for part, emotions in lacking.items() if emotions]

    def _find_missing_emotions(self, rows: Indices) -> list[str]:
        emotions = self.manifest.encode_column("emotion")[1]
        return [emotions[code] for code in np.flatnonzero(~self.manifest.find_present_values("emotion", rows))]

    def summarise(self) -> list[dict[str, Any]]:
        """Return one row per part: clips, minutes (None before the audio was read), speakers, clips by emotion."""
        rows = []
        for part, indices in self.parts.items():
            inside = self.manifest.take(indices)
            seconds = inside.column("duration_s").astype(np.float64)
            codes, names = inside.encode_column("emotion")
            clips = dict(zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True))
            rows.append(
                {
                    "part": part,
                    "clips": len(inside),
                    "minutes": None if np.isnan(seconds).any() else float(seconds.sum() / 60),
                    "speakers": list(inside.speakers),
                    "emotions": {label: clips.get(label, 0) for label in self.manifest.labels},
                }
            )
        return rows

    def with_dev(self, dev_speakers: tuple[str, ...]) -> "Split":
        """Return a split with the same test, these speakers in dev, and the others of train and dev in train."""
        pool = np.sort(np.concatenate([self.train, self.dev]))
        is_dev = np.isin(self.manifest.column("speaker")[pool], dev_speakers)
        train, dev = pool[~is_dev], pool[is_dev]
        return Split(self.manifest, train, dev, self.test, self.seed, self.protocol, self.fold, self.allowed_leaks)


def combine_protocol_stamps(splits: Sequence[Split]) -> str:
    """Return the protocol stamp of several folds of one corpus, with the leaks of all of them."""
    if len(splits) == 1:
        return splits[0].protocol_stamp
    leaks = sorted({leak for split in splits for leak in split.leaks})
    return f"{splits[0].protocol}, {len(splits)} folds" + (f" ({', '.join(leaks)})" if leaks else "")


def fingerprint_clips(clips: Manifest) -> str:
    """Return the SHA-256, in hex, of the audio and the labels of some clips, in any order."""
    return digest_of(sorted(zip(clips.column("audio_sha256"), clips.column("emotion"), strict=True)))


def split_by_speaker(manifest: Manifest, seed: int = 0) -> Split:
    """Return a split by speaker, with every emotion in each part and both sexes in dev and test, if possible.

    Raises:
        CorpusError: there are fewer than three speakers, or no choice of speakers leaves every emotion in train.
    """
    speakers = manifest.speakers
    if len(speakers) < 3:
        raise CorpusError(f"{len(speakers)} speakers; train, dev and test need at least one each")
    n_held_out = min(max(2, round(len(speakers) * HELD_OUT_SHARE)), (len(speakers) - 1) // 2)
    has_emotion = manifest.cross_tabulate("speaker", "emotion") > 0
    number = {speaker: n for n, speaker in enumerate(speakers)}
    sexes = find_sex_of_speakers(manifest)
    rng = np.random.default_rng(seed)
    best: tuple[int, list[str], list[str], list[str]] | None = None
    for _ in range(MAX_SHUFFLES):
        order = shuffle_balanced_by_sex(speakers, sexes, rng)
        test, dev, train = order[:n_held_out], order[n_held_out : 2 * n_held_out], order[2 * n_held_out :]
        lacking = [int((~has_emotion[[number[s] for s in part]].any(axis=0)).sum()) for part in (train, dev, test)]
        if lacking[0] == 0 and (best is None or sum(lacking) < best[0]):
            best = (sum(lacking), train, dev, test)
            if sum(lacking) == 0:
                break
    if best is None:
        raise CorpusError("an emotion has too few speakers: no split by speaker leaves every emotion in train")
    train_rows, dev_rows, test_rows = (find_speaker_rows(manifest, speakers) for speakers in best[1:])
    return Split(manifest, train_rows, dev_rows, test_rows, seed)


def group_training_speakers(split: Split) -> list[tuple[str, ...]]:
    """Return the training speakers in groups about as large as dev, with both sexes in each group if possible."""
    train, dev = split.speakers("train"), split.speakers("dev")
    inside = split.manifest.take(split.train)
    order = shuffle_balanced_by_sex(inside.speakers, find_sex_of_speakers(inside), np.random.default_rng(split.seed))
    size = -(-len(order) // max(2, round(len(train) / len(dev))))
    return [tuple(sorted(order[first : first + size])) for first in range(0, len(order), size)]


def find_speaker_rows(manifest: Manifest, speakers: Sequence[str]) -> Indices:
    """Return the rows of the clips of `speakers`, ascending."""
    codes, names = manifest.encode_column("speaker")
    return np.flatnonzero(np.isin(names, speakers)[codes])


def find_sex_of_speakers(manifest: Manifest) -> dict[str, str]:
    """Return the most frequent sex of each speaker, "unknown" where the corpus has none."""
    sexes = manifest.encode_column("sex")[1]
    counts = manifest.cross_tabulate("speaker", "sex")
    if not len(sexes):
        return dict.fromkeys(manifest.speakers, UNKNOWN)
    likely = counts.argmax(axis=1)
    return {speaker: sexes[likely[n]] if counts[n].any() else UNKNOWN for n, speaker in enumerate(manifest.speakers)}


def shuffle_balanced_by_sex(speakers: Sequence[str], sexes: dict[str, str], rng: np.random.Generator) -> list[str]:
    """Return the speakers in random order, with the sexes alternating until one is used up."""
    piles: dict[str, list[str]] = {}
    for speaker in rng.permutation(np.array(speakers, dtype=str)):
        piles.setdefault(sexes[speaker], []).append(str(speaker))
    order: list[str] = []
    while any(piles.values()):
        order += [piles[sex].pop() for sex in sorted(piles) if piles[sex]]
    return order
