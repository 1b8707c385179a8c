"""Protocols: the ways to make train, dev and test of a corpus, by the names that users give them.

`speaker` (the default), `loso`, `speaker_kfold:K`, `official`, `fixed:FILE.csv`, `cross_corpus:train=A,test=B` and
`random`. All keep speakers apart except `random`, which has to be allowed and is stamped, and `official`, which is
stamped where its publishers let speakers overlap. A protocol that gives only test folds gets its dev from two other
speakers, of both sexes where there are, chosen by seed to cover every emotion.
"""

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np

from ser_platform.corpora.manifest import Manifest
from ser_platform.corpora.splits.assignment_table import read_assignment
from ser_platform.corpora.splits.split import (
    EVERY_LEAK,
    HELD_OUT_SHARE,
    PARTS,
    SPEAKERS_OVERLAP,
    SPEAKERS_UNKNOWN,
    Indices,
    Split,
    balanced_order,
    rows_of,
    sex_of_speakers,
    split_by_speaker,
)
from ser_platform.errors import CorpusError, UnknownChoice, UserError
from ser_platform.files import expanded

DEV_SPEAKERS = 2
SPELT = ("speaker", "loso", "speaker_kfold:K", "official", "fixed:FILE.csv", "cross_corpus:train=A,test=B", "random")


@dataclass(frozen=True)
class Request:
    """A protocol with its argument, the seed of what it leaves open, and whether it may leak."""

    name: str
    argument: str
    seed: int
    allow_leaky_split: bool

    @property
    def text(self) -> str:
        """The protocol as users write it; of a file, its name."""
        argument = PurePath(self.argument).name if self.name == "fixed" else self.argument
        return f"{self.name}:{argument}" if argument else self.name

    @property
    def may_leak(self) -> frozenset[str]:
        return EVERY_LEAK if self.allow_leaky_split else frozenset()

    def split(self, manifest: Manifest, train: Indices, dev: Indices, test: Indices, fold: str = "") -> Split:
        """Return a split of this protocol."""
        return Split(manifest, train, dev, test, self.seed, self.text, fold, self.may_leak)


def make_splits(manifest: Manifest, protocol: str, seed: int = 0, allow_leaky_split: bool = False) -> list[Split]:
    """Split a manifest by a protocol: one split, or one a fold.

    Raises:
        UserError: the protocol is unknown or misspelt, does not fit the corpus, or would leak.
    """
    name, argument = _spelt(protocol)
    if name not in PROTOCOLS:
        raise UnknownChoice("protocol", protocol, SPELT)
    if name not in TAKE_ARGUMENT and argument:
        raise UserError(f"protocol {name!r} takes no argument; got {argument!r}")
    return PROTOCOLS[name](manifest, Request(name, argument, seed, allow_leaky_split))


def _speaker(manifest: Manifest, request: Request) -> list[Split]:
    _require_speakers(manifest, request)
    families = _families(manifest)
    if len(families) == 1:
        return [replace(split_by_speaker(manifest, request.seed), protocol=request.text)]
    parts: dict[str, list[Indices]] = {part: [] for part in PARTS}
    for rows in families:
        family = manifest.take(rows)
        if len(family.speakers) < 3:
            parts["train"].append(rows)  # TESS has two speakers: none can be spared for dev and test
            continue
        for part, inside in split_by_speaker(family, request.seed).parts.items():
            parts[part].append(rows[inside])
    if not parts["test"]:
        return [replace(split_by_speaker(manifest, request.seed), protocol=request.text)]
    train, dev, test = (np.sort(np.concatenate(parts[part])) for part in PARTS)
    return [request.split(manifest, train, dev, test)]


def _families(manifest: Manifest) -> list[Indices]:
    """Return the rows of the corpora that are split on their own: each, or several together that share speakers.

    So the test speakers of a corpus are the same whether it is trained on alone or with others.
    """
    shares = manifest.counts("corpus", "speaker") > 0
    family = np.arange(len(shares))
    for speaker in shares.T:
        members = np.flatnonzero(speaker)
        family[np.isin(family, family[members])] = family[members].min()
    codes, _ = manifest.coded("corpus")
    return [np.flatnonzero(np.isin(codes, np.flatnonzero(family == each))) for each in np.unique(family)]


def _loso(manifest: Manifest, request: Request) -> list[Split]:
    _require_speakers(manifest, request)
    return _by_test_speakers(manifest, request, [[speaker] for speaker in manifest.speakers])


def _speaker_kfold(manifest: Manifest, request: Request) -> list[Split]:
    _require_speakers(manifest, request)
    n_speakers = len(manifest.speakers)
    if not request.argument.isdecimal() or not 2 <= int(request.argument) <= n_speakers:
        raise UserError(
            f"speaker_kfold takes the number of folds, from 2 to {n_speakers} (speakers), like speaker_kfold:5; "
            f"got {request.argument or 'none'}"
        )
    rng = np.random.default_rng(request.seed)
    order = balanced_order(manifest.speakers, sex_of_speakers(manifest), rng)
    folds = [sorted(map(str, part)) for part in np.array_split(order, int(request.argument))]
    return _by_test_speakers(manifest, request, folds)


def _official(manifest: Manifest, request: Request) -> list[Split]:
    codes, names = manifest.coded("part")
    if set(names) != set(PARTS) or (codes < 0).any():
        raise CorpusError(f"{' and '.join(manifest.corpora)} has no official train, dev and test for every clip")
    train, dev, test = (np.flatnonzero(codes == names.index(part)) for part in PARTS)
    # Its publishers let speakers overlap or not; that is a fact to stamp. A clip in two parts has to be allowed.
    may_leak = request.may_leak | {SPEAKERS_OVERLAP, SPEAKERS_UNKNOWN}
    return [Split(manifest, train, dev, test, request.seed, request.text, may_leak=may_leak)]


def _fixed(manifest: Manifest, request: Request) -> list[Split]:
    table = expanded(request.argument)
    column, assigned = read_assignment(table, manifest)
    said = set(assigned.tolist())
    if column == "split" and said == {"train", "test"}:
        return [_with_dev_speakers(manifest, request, np.flatnonzero(assigned == "test"), "")]
    if column == "split" and said != set(PARTS):
        raise CorpusError(
            f"{table}: column 'split' holds {', '.join(sorted(said))}; it must be {', '.join(PARTS)}, or without dev"
        )
    if column == "split":
        train, dev, test = (np.flatnonzero(assigned == part) for part in PARTS)
        return [request.split(manifest, train, dev, test)]
    folds = sorted(said, key=lambda fold: (len(fold), fold))
    return [
        _with_dev_speakers(manifest, request, np.flatnonzero(assigned == fold), f"{number}/{len(folds)}")
        for number, fold in enumerate(folds, start=1)
    ]


def _cross_corpus(manifest: Manifest, request: Request) -> list[Split]:
    wanted = _sides(request.argument)
    names = manifest.corpora
    for corpus in itertools.chain(*wanted.values()):
        if corpus not in names:
            raise UserError(
                f"cross_corpus names {corpus!r}, but the speech is of {', '.join(names)}; "
                f"give --corpus {'+'.join((*wanted['train'], *wanted['test']))}, or leave it out"
            )
    if idle := set(names).difference(wanted["train"], wanted["test"]):
        raise UserError(f"cross_corpus has {', '.join(sorted(idle))} on neither side; leave it out of --corpus")
    if common := set(wanted["train"]) & set(wanted["test"]):
        raise UserError(f"cross_corpus has {', '.join(sorted(common))} on both sides")
    is_test = np.isin(manifest.column("corpus"), wanted["test"])
    _require_speakers(manifest.take(np.flatnonzero(~is_test)), request)
    only_test = set(manifest.take(np.flatnonzero(is_test)).labels) - set(manifest.take(np.flatnonzero(~is_test)).labels)
    if only_test:
        raise CorpusError(
            f"{', '.join(sorted(only_test))} occurs in {'+'.join(wanted['test'])} but not in "
            f"{'+'.join(wanted['train'])}: choose labels that both have, like --labels shared or --labels 6"
        )
    return [_with_dev_speakers(manifest, request, np.flatnonzero(is_test), "")]


def _random(manifest: Manifest, request: Request) -> list[Split]:
    """Clips dealt by emotion, whoever speaks; clips of the same audio stay together."""
    if not request.allow_leaky_split:
        raise UserError(
            "protocol 'random' puts the same speakers into train and test, so its figures say nothing about "
            "new people; take 'speaker', or ask for it with --allow-leaky-split: every run, figure and bundle will "
            "carry it"
        )
    rng = np.random.default_rng(request.seed)
    emotions, _ = manifest.coded("emotion")
    audio, _ = manifest.coded("audio_sha256")
    group = np.where(audio >= 0, audio, audio.max(initial=-1) + 1 + np.arange(len(audio)))
    _, first, owner = np.unique(group, return_index=True, return_inverse=True)
    part = np.empty(len(first), dtype=np.int64)
    for emotion in np.unique(emotions):
        members = rng.permutation(np.flatnonzero(emotions[first] == emotion))
        held_out = round(len(members) * HELD_OUT_SHARE)
        part[members] = 0
        part[members[:held_out]], part[members[held_out : 2 * held_out]] = 2, 1
    train, dev, test = (np.flatnonzero(part[owner] == number) for number in range(3))
    return [request.split(manifest, train, dev, test)]


PROTOCOLS: dict[str, Callable[[Manifest, Request], list[Split]]] = {
    "speaker": _speaker,
    "loso": _loso,
    "speaker_kfold": _speaker_kfold,
    "official": _official,
    "fixed": _fixed,
    "cross_corpus": _cross_corpus,
    "random": _random,
}
TAKE_ARGUMENT = ("speaker_kfold", "fixed", "cross_corpus")


def corpora_of(protocol: str) -> str | None:
    """Return the corpora that a protocol names itself, joined by `+`; None where it names none.

    Raises:
        UserError: it is a cross_corpus that is misspelt.
    """
    name, argument = _spelt(protocol)
    return "+".join(itertools.chain(*_sides(argument).values())) if name == "cross_corpus" else None


def _spelt(protocol: str) -> tuple[str, str]:
    """Return a protocol's name and argument; both `speaker_kfold:5` and `speaker_kfold(5)` are understood."""
    match = re.fullmatch(r"(\w+)(?:[:(](.+?)\)?)?", protocol.strip())
    return (match[1], match[2] or "") if match else (protocol, "")


def _sides(argument: str) -> dict[str, list[str]]:
    match = re.fullmatch(r"train=([\w.+-]+),\s*test=([\w.+-]+)", argument)
    if match is None:
        raise UserError(
            f"cross_corpus takes names of corpora, train=A,test=B, like {SPELT[5]}; got {argument or 'none'}; "
            "a folder of one's own is named folder-NAME, its path goes to --corpus"
        )
    return {"train": match[1].split("+"), "test": match[2].split("+")}


def _require_speakers(manifest: Manifest, request: Request) -> None:
    if manifest.unknown_speakers:
        raise CorpusError(
            f"{', '.join(manifest.unknown_speakers)} does not say who speaks, which protocol {request.name!r} needs: "
            "give --speaker-from REGEX or --speaker-column NAME, or a leaky split: --protocol random "
            "--allow-leaky-split"
        )


def _by_test_speakers(manifest: Manifest, request: Request, folds: Iterable[list[str]]) -> list[Split]:
    groups = list(folds)
    return [
        _with_dev_speakers(manifest, request, rows_of(manifest, speakers), f"{number}/{len(groups)}")
        for number, speakers in enumerate(groups, start=1)
    ]


def _with_dev_speakers(manifest: Manifest, request: Request, test: Indices, fold: str) -> Split:
    """Give a test set its dev: two other speakers, of both sexes where there are, that leave train every emotion.

    Of the pairs in the order of a seeded shuffle, the first whose dev lacks the fewest emotions is taken.
    """
    rest = _others(manifest, test)
    says = manifest.counts("speaker", "emotion", rest) > 0
    number = {speaker: n for n, speaker in enumerate(manifest.speakers) if says[n].any()}
    if len(number) <= DEV_SPEAKERS:
        raise CorpusError(f"{len(number)} speakers beside the test clips; train and dev need at least 3")
    missing = sorted(np.array(manifest.coded("emotion")[1])[~says.any(axis=0)].tolist())
    if missing:
        raise CorpusError(f"no clip of {', '.join(missing)} beside the test clips; training needs every emotion")
    known = sex_of_speakers(manifest)
    sexes = {speaker: known[speaker] for speaker in number}
    mixed = len(set(sexes.values())) > 1
    rng = np.random.default_rng([request.seed, *(ord(letter) for letter in fold)])
    order = balanced_order(tuple(number), sexes, rng)
    spoken = says.sum(axis=0)  # speakers of each emotion
    best: tuple[int, tuple[str, str]] | None = None
    for pair in itertools.combinations(order, DEV_SPEAKERS):
        if mixed and sexes[pair[0]] == sexes[pair[1]]:
            continue
        inside = says[[number[speaker] for speaker in pair]]
        if (spoken - inside.sum(axis=0) == 0).any():
            continue  # train would lack an emotion
        lacking = int((~inside.any(axis=0)).sum())
        if best is None or lacking < best[0]:
            best = (lacking, (pair[0], pair[1]))
            if lacking == 0:
                break
    if best is None:
        raise CorpusError("some emotion is spoken by too few speakers: no two dev speakers leave all of them in train")
    dev = np.setdiff1d(rows_of(manifest, best[1]), test)
    return request.split(manifest, _others(manifest, test, dev), dev, test, fold)


def _others(manifest: Manifest, *taken: Indices) -> Indices:
    """Return the rows that are in none of `taken`, ascending."""
    free = np.ones(len(manifest), dtype=bool)
    for rows in taken:
        free[rows] = False
    return np.flatnonzero(free)
