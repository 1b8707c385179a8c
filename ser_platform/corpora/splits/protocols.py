"""Protocols: the ways to split a corpus into train, dev and test, by their names.

`speaker` (the default), `loso`, `speaker_kfold:K`, `official`, `fixed:FILE.csv`, `cross_corpus:train=A,test=B` and
`random`. A speaker is in one part only, except in `random`, which must be allowed and is stamped, and in `official`,
which is stamped where speakers overlap. Protocols that define only test take dev from two other speakers, of both sexes
if possible; the seed chooses them so that dev covers as many emotions as possible.
"""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np

from ser_platform.corpora.manifest import Manifest
from ser_platform.corpora.splits.assignment_table import read_assignment
from ser_platform.corpora.splits.split import (
    ALL_LEAKS,
    HELD_OUT_SHARE,
    PARTS,
    SPEAKERS_OVERLAP,
    SPEAKERS_UNKNOWN,
    Indices,
    Split,
    find_sex_of_speakers,
    find_speaker_rows,
    shuffle_balanced_by_sex,
    split_by_speaker,
)
from ser_platform.errors import CorpusError, UnknownChoice, UserError
from ser_platform.files import expand_path

N_DEV_SPEAKERS = 2
PROTOCOL_SPELLINGS = (
    "speaker",
    "loso",
    "speaker_kfold:K",
    "official",
    "fixed:FILE.csv",
    "cross_corpus:train=A,test=B",
    "random",
)


@dataclass(frozen=True)
class ProtocolRequest:
    """A protocol with its argument, the seed of its random choices, and whether leaks are allowed."""

    name: str
    argument: str
    seed: int
    allow_leaky_split: bool

    @property
    def spelling(self) -> str:
        """The protocol as users write it, with the name of a file instead of its path."""
        argument = PurePath(self.argument).name if self.name == "fixed" else self.argument
        return f"{self.name}:{argument}" if argument else self.name

    @property
    def allowed_leaks(self) -> frozenset[str]:
        return ALL_LEAKS if self.allow_leaky_split else frozenset()

    def make_split(self, manifest: Manifest, train: Indices, dev: Indices, test: Indices, fold: str = "") -> Split:
        """Return a split of this protocol."""
        return Split(manifest, train, dev, test, self.seed, self.spelling, fold, self.allowed_leaks)


def make_splits(manifest: Manifest, protocol: str, seed: int = 0, allow_leaky_split: bool = False) -> list[Split]:
    """Return the splits of a manifest by a protocol: one, or one per fold.

    Raises:
        UserError: the protocol is unknown or misspelt, does not fit the corpus, or leaks without permission.
    """
    name, argument = _parse_protocol(protocol)
    if name not in PROTOCOLS:
        raise UnknownChoice("protocol", protocol, PROTOCOL_SPELLINGS)
    if name not in PROTOCOLS_WITH_ARGUMENT and argument:
        raise UserError(f"protocol {name!r} takes no argument; got {argument!r}")
    return PROTOCOLS[name](manifest, ProtocolRequest(name, argument, seed, allow_leaky_split))


def _split_by_speaker(manifest: Manifest, request: ProtocolRequest) -> list[Split]:
    _require_speakers(manifest, request)
    parts: dict[str, list[Indices]] = {part: [] for part in PARTS}
    groups = _group_corpora(manifest)
    for rows in groups:
        family = manifest.take(rows)
        if len(family.speakers) < 3:
            parts["train"].append(rows)  # too few for dev and test, as in TESS
            continue
        for part, inside in split_by_speaker(family, request.seed).parts.items():
            parts[part].append(rows[inside])
    if len(groups) == 1 or not parts["test"]:
        return [replace(split_by_speaker(manifest, request.seed), protocol=request.spelling)]
    train, dev, test = (np.sort(np.concatenate(parts[part])) for part in PARTS)
    return [request.make_split(manifest, train, dev, test)]


def _group_corpora(manifest: Manifest) -> list[Indices]:
    """Return the rows of each corpus; corpora that share speakers form one group.

    Each group is split separately, so that the test speakers of a corpus do not depend on the other corpora.
    """
    shares = manifest.cross_tabulate("corpus", "speaker") > 0
    family = np.arange(len(shares))
    for speaker in shares.T:
        members = np.flatnonzero(speaker)
        family[np.isin(family, family[members])] = family[members].min()
    codes, _ = manifest.encode_column("corpus")
    return [np.flatnonzero(np.isin(codes, np.flatnonzero(family == each))) for each in np.unique(family)]


def _split_loso(manifest: Manifest, request: ProtocolRequest) -> list[Split]:
    _require_speakers(manifest, request)
    return _split_by_test_speakers(manifest, request, [[speaker] for speaker in manifest.speakers])


def _split_speaker_kfold(manifest: Manifest, request: ProtocolRequest) -> list[Split]:
    _require_speakers(manifest, request)
    n_speakers = len(manifest.speakers)
    if not request.argument.isdecimal() or not 2 <= int(request.argument) <= n_speakers:
        raise UserError(
            f"speaker_kfold needs the number of folds, from 2 to {n_speakers} (speakers), like speaker_kfold:5; "
            f"got {request.argument or 'none'}"
        )
    rng = np.random.default_rng(request.seed)
    order = shuffle_balanced_by_sex(manifest.speakers, find_sex_of_speakers(manifest), rng)
    folds = [sorted(map(str, part)) for part in np.array_split(order, int(request.argument))]
    return _split_by_test_speakers(manifest, request, folds)


def _split_officially(manifest: Manifest, request: ProtocolRequest) -> list[Split]:
    codes, names = manifest.encode_column("part")
    if set(names) != set(PARTS) or (codes < 0).any():
        raise CorpusError(f"{' and '.join(manifest.corpora)} has no official train, dev and test for every clip")
    train, dev, test = (np.flatnonzero(codes == names.index(part)) for part in PARTS)
    # The publishers chose the speakers, so an overlap is stamped and not refused; overlapping clips must be allowed.
    allowed_leaks = request.allowed_leaks | {SPEAKERS_OVERLAP, SPEAKERS_UNKNOWN}
    return [Split(manifest, train, dev, test, request.seed, request.spelling, allowed_leaks=allowed_leaks)]


def _split_by_table(manifest: Manifest, request: ProtocolRequest) -> list[Split]:
    table = expand_path(request.argument)
    column, assigned = read_assignment(table, manifest)
    assigned_values = set(assigned.tolist())
    if column == "split" and assigned_values == {"train", "test"}:
        return [_split_with_dev_speakers(manifest, request, np.flatnonzero(assigned == "test"), "")]
    if column == "split" and assigned_values != set(PARTS):
        raise CorpusError(
            f"{table}: column 'split' has {', '.join(sorted(assigned_values))}; it must be {', '.join(PARTS)}, or "
            "without dev"
        )
    if column == "split":
        train, dev, test = (np.flatnonzero(assigned == part) for part in PARTS)
        return [request.make_split(manifest, train, dev, test)]
    folds = sorted(assigned_values, key=lambda fold: (len(fold), fold))
    return [
        _split_with_dev_speakers(manifest, request, np.flatnonzero(assigned == fold), f"{number}/{len(folds)}")
        for number, fold in enumerate(folds, start=1)
    ]


def _split_across_corpora(manifest: Manifest, request: ProtocolRequest) -> list[Split]:
    sides = _parse_sides(request.argument)
    names = manifest.corpora
    for corpus in itertools.chain(*sides.values()):
        if corpus not in names:
            raise UserError(
                f"cross_corpus names {corpus!r}, but --corpus is {', '.join(names)}; "
                f"give --corpus {'+'.join((*sides['train'], *sides['test']))}, or leave it out"
            )
    if idle := set(names).difference(sides["train"], sides["test"]):
        raise UserError(f"cross_corpus has {', '.join(sorted(idle))} on neither side; leave it out of --corpus")
    if common := set(sides["train"]) & set(sides["test"]):
        raise UserError(f"cross_corpus has {', '.join(sorted(common))} on both sides")
    is_test = np.isin(manifest.column("corpus"), sides["test"])
    _require_speakers(manifest.take(np.flatnonzero(~is_test)), request)
    only_test = set(manifest.take(np.flatnonzero(is_test)).labels) - set(manifest.take(np.flatnonzero(~is_test)).labels)
    if only_test:
        raise CorpusError(
            f"{', '.join(sorted(only_test))} occurs in {'+'.join(sides['test'])} but not in "
            f"{'+'.join(sides['train'])}; choose labels that both have, like --labels shared or --labels 6"
        )
    return [_split_with_dev_speakers(manifest, request, np.flatnonzero(is_test), "")]


def _split_at_random(manifest: Manifest, request: ProtocolRequest) -> list[Split]:
    """Split the clips of each emotion at random, regardless of speakers; clips with the same audio stay together."""
    if not request.allow_leaky_split:
        raise UserError(
            "protocol 'random' puts the same speakers into train and test: its figures do not hold for new speakers; "
            "use 'speaker', or allow it with --allow-leaky-split, which is stamped on every run, figure and bundle"
        )
    rng = np.random.default_rng(request.seed)
    emotions, _ = manifest.encode_column("emotion")
    audio, _ = manifest.encode_column("audio_sha256")
    group = np.where(audio >= 0, audio, audio.max(initial=-1) + 1 + np.arange(len(audio)))
    _, first, owner = np.unique(group, return_index=True, return_inverse=True)
    part = np.empty(len(first), dtype=np.int64)
    for emotion in np.unique(emotions):
        members = rng.permutation(np.flatnonzero(emotions[first] == emotion))
        held_out = round(len(members) * HELD_OUT_SHARE)
        part[members] = 0
        part[members[:held_out]], part[members[held_out : 2 * held_out]] = 2, 1
    train, dev, test = (np.flatnonzero(part[owner] == number) for number in range(3))
    return [request.make_split(manifest, train, dev, test)]


PROTOCOLS: dict[str, Callable[[Manifest, ProtocolRequest], list[Split]]] = {
    "speaker": _split_by_speaker,
    "loso": _split_loso,
    "speaker_kfold": _split_speaker_kfold,
    "official": _split_officially,
    "fixed": _split_by_table,
    "cross_corpus": _split_across_corpora,
    "random": _split_at_random,
}
PROTOCOLS_WITH_ARGUMENT = ("speaker_kfold", "fixed", "cross_corpus")


def parse_named_corpora(protocol: str) -> str | None:
    """Return the corpora in the name of a cross_corpus protocol, joined by `+`; None for other protocols.

    Raises:
        UserError: the argument of cross_corpus is misspelt.
    """
    name, argument = _parse_protocol(protocol)
    return "+".join(itertools.chain(*_parse_sides(argument).values())) if name == "cross_corpus" else None


def _parse_protocol(protocol: str) -> tuple[str, str]:
    """Return the name and the argument of a protocol, written as `speaker_kfold:5` or `speaker_kfold(5)`."""
    match = re.fullmatch(r"(\w+)(?:[:(](.+?)\)?)?", protocol.strip())
    return (match[1], match[2] or "") if match else (protocol, "")


def _parse_sides(argument: str) -> dict[str, list[str]]:
    match = re.fullmatch(r"train=([\w.+-]+),\s*test=([\w.+-]+)", argument)
    if match is None:
        raise UserError(
            f"cross_corpus needs names of corpora, like {PROTOCOL_SPELLINGS[5]}; got {argument or 'none'}; "
            "the name of an own folder is folder-NAME, and its path belongs to --corpus"
        )
    return {"train": match[1].split("+"), "test": match[2].split("+")}


def _require_speakers(manifest: Manifest, request: ProtocolRequest) -> None:
    if manifest.corpora_without_speakers:
        raise CorpusError(
            f"protocol {request.name!r} needs speakers; {', '.join(manifest.corpora_without_speakers)} has none: give "
            "--speaker-from REGEX or --speaker-column NAME, or a leaky split: --protocol random --allow-leaky-split"
        )


def _split_by_test_speakers(manifest: Manifest, request: ProtocolRequest, folds: list[list[str]]) -> list[Split]:
    return [
        _split_with_dev_speakers(manifest, request, find_speaker_rows(manifest, speakers), f"{number}/{len(folds)}")
        for number, speakers in enumerate(folds, start=1)
    ]


def _split_with_dev_speakers(manifest: Manifest, request: ProtocolRequest, test: Indices, fold: str) -> Split:
    """Return a split of the given test rows, with two other speakers in dev and the rest in train.

    The two are of both sexes if possible, and leave every emotion in train. Of these pairs, in seeded random order, the
    first pair with the fewest missing emotions is taken.
    """
    rest = _remaining_rows(manifest, test)
    has_emotion = manifest.cross_tabulate("speaker", "emotion", rest) > 0
    number = {speaker: n for n, speaker in enumerate(manifest.speakers) if has_emotion[n].any()}
    if len(number) <= N_DEV_SPEAKERS:
        raise CorpusError(f"{len(number)} speakers without test clips; train and dev need at least 3")
    missing = sorted(np.array(manifest.encode_column("emotion")[1])[~has_emotion.any(axis=0)].tolist())
    if missing:
        raise CorpusError(f"no clip of {', '.join(missing)} outside test; training needs every emotion")
    known = find_sex_of_speakers(manifest)
    sexes = {speaker: known[speaker] for speaker in number}
    mixed = len(set(sexes.values())) > 1
    rng = np.random.default_rng([request.seed, *(ord(letter) for letter in fold)])
    order = shuffle_balanced_by_sex(tuple(number), sexes, rng)
    n_speakers_of_emotion = has_emotion.sum(axis=0)
    best: tuple[int, tuple[str, str]] | None = None
    for pair in itertools.combinations(order, N_DEV_SPEAKERS):
        if mixed and sexes[pair[0]] == sexes[pair[1]]:
            continue
        inside = has_emotion[[number[speaker] for speaker in pair]]
        if (n_speakers_of_emotion - inside.sum(axis=0) == 0).any():
            continue  # train would lack an emotion
        lacking = int((~inside.any(axis=0)).sum())
        if best is None or lacking < best[0]:
            best = (lacking, (pair[0], pair[1]))
            if lacking == 0:
                break
    if best is None:
        raise CorpusError("an emotion has too few speakers: no two dev speakers leave every emotion in train")
    dev = np.setdiff1d(find_speaker_rows(manifest, best[1]), test)
    return request.make_split(manifest, _remaining_rows(manifest, test, dev), dev, test, fold)


def _remaining_rows(manifest: Manifest, *taken: Indices) -> Indices:
    """Return the rows in none of `taken`, ascending."""
    free = np.ones(len(manifest), dtype=bool)
    for rows in taken:
        free[rows] = False
    return np.flatnonzero(free)
