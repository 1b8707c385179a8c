"""Finds the corpora that a user names or gives paths of, and reads them into one manifest."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from ser_platform.corpora.audio.ffmpeg import VIDEO_SUFFIXES
from ser_platform.corpora.audio.reader import AUDIO_SUFFIXES, RECORDING_SUFFIXES, list_audio_files
from ser_platform.corpora.datasets import CORPORA, demo, folder
from ser_platform.corpora.facts import CorpusEntry, ExcludedFile, Misfit
from ser_platform.corpora.manifest import Manifest, Utterance, speaker_name
from ser_platform.emotions import LabelRules
from ser_platform.errors import CorpusError, UnknownChoice, UserError
from ser_platform.files import expand_path
from ser_platform.settings import corpora_folder, home

MAX_LISTED_MISFITS = 5  # misfits that an error lists
CORPUS_SEPARATOR = "+"


@dataclass(frozen=True)
class CorpusRequest:
    """The corpora to read, and how to read them.

    Attributes:
        corpus: names or paths, joined by `+`.
        as_name: the adapter to read a path with; None recognises it.
        speaker_from: regular expression that is searched in the path of each clip within its corpus; its group is the
            speaker.
        columns: for the adapter `folder`, from our column names to those of the table.
        labels: rules for the emotions, see `LabelRules`.
    """

    corpus: str
    as_name: str | None = None
    speaker_from: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: str = "as_labelled"

    @property
    def texts(self) -> list[str]:
        """The names and paths of the corpora; a path may contain a `+`."""
        return [self.corpus] if expand_path(self.corpus).exists() else self.corpus.split(CORPUS_SEPARATOR)

    def with_absolute_paths(self) -> "CorpusRequest":
        """Return the request with absolute paths, which another working directory has no effect on."""
        if not self.corpus:  # the protocol names the corpora
            return self
        absolute = [text if text in CORPORA else str(_expand_corpus_path(text).resolve()) for text in self.texts]
        return replace(self, corpus=CORPUS_SEPARATOR.join(absolute))


@dataclass(frozen=True)
class FoundCorpus:
    """A corpus: its adapter, its folder, and the options to read it with."""

    adapter_name: str
    root: Path
    speaker_from: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def corpus_name(self) -> str:
        """The name in speakers, manifests and runs."""
        return folder.corpus_name(self.root) if self.adapter_name == "folder" else self.adapter_name

    def read_entries(self) -> Iterator[CorpusEntry]:
        """Yield the entry of each file, ordered by path."""
        options = (self.columns, self._unguessed_columns) if self.adapter_name == "folder" else ()
        pattern = _compile_speaker_pattern(self.speaker_from)
        for entry in map(_reject_unencodable_path, CORPORA[self.adapter_name].utterances(self.root, *options)):
            if pattern is not None and isinstance(entry, Utterance):
                yield _assign_speaker(entry, self.root, pattern)
            else:
                yield entry

    @property
    def _unguessed_columns(self) -> tuple[str, ...]:
        """The columns of a table that are not recognised by other names: `--speaker-from` finds the speakers."""
        return () if self.speaker_from is None else ("speaker",)

    def describe_columns(self) -> list[str]:
        """Return a line for each column of a table of metadata that is recognised by another name."""
        if self.adapter_name != "folder":
            return []
        return folder.describe_columns(self.root, self.columns, self._unguessed_columns)

    def read_manifest(self) -> tuple[Manifest, Counter[str]]:
        """Return the manifest, without durations and audio digests, and the number of excluded files by reason.

        Raises:
            CorpusError: there is no audio, or a file does not fit the corpus; the message lists up to five such files.
        """
        entries = list(self.read_entries())
        misfits = [entry for entry in entries if isinstance(entry, Misfit)]
        if misfits:
            listed = "; ".join(map(str, misfits[:MAX_LISTED_MISFITS]))
            n_more = len(misfits) - MAX_LISTED_MISFITS
            more = f"; and {n_more} more, see: ser corpora doctor {self.root}" if n_more > 0 else ""
            raise CorpusError(listed + more)
        manifest = Manifest.from_utterances(entry for entry in entries if isinstance(entry, Utterance))
        left_out = Counter(entry.reason for entry in entries if isinstance(entry, ExcludedFile))
        if not len(manifest):
            instead = f"; left out: {_format_counts(left_out)}" if left_out else ""
            suffixes = ", ".join(sorted(RECORDING_SUFFIXES if self.adapter_name == "folder" else AUDIO_SUFFIXES))
            raise CorpusError(f"{self.root} holds no audio of {self.adapter_name} ({suffixes}){instead}")
        return manifest, left_out


@dataclass(frozen=True)
class RequestedSpeech:
    """The speech of a request; `notes` report recognised columns, excluded files and dropped emotions."""

    name: str
    manifest: Manifest
    notes: tuple[str, ...]


def read_requested_speech(request: CorpusRequest) -> RequestedSpeech:
    """Return the joined speech of the corpora of a request, after its label rules.

    Raises:
        UserError: a corpus is unknown or missing, a file does not fit its corpus, or no clip is left.
    """
    rules = LabelRules.parse(request.labels)
    found = find_corpora(request)
    manifests, notes = [], []
    for corpus in found:
        manifest, left_out = corpus.read_manifest()
        _refuse_speaker_variants(manifest)
        manifests.append(manifest)
        notes += [f"{corpus.corpus_name}: {line}" for line in corpus.describe_columns()]
        if left_out:
            notes.append(f"{corpus.corpus_name}: left out {_format_counts(left_out)}")
    joined = manifests[0] if len(manifests) == 1 else Manifest.join(manifests)
    mapping = rules.map_emotions(manifest.labels for manifest in manifests)
    emotions = Counter(joined.column("emotion"))
    absent = [emotion for emotion in rules.named_emotions if emotion not in mapping.values() and emotion not in mapping]
    if absent:
        notes.append(f"labels {request.labels!r}: no clip of {', '.join(absent)}")
    changed = [
        f"{emotion} dropped (clips: {emotions[emotion]})" if label is None else f"{emotion} counts as {label}"
        for emotion, label in mapping.items()
        if label != emotion
    ]
    if changed:
        notes.append(f"labels {request.labels!r}: {', '.join(changed)}")
        joined = joined.relabel(mapping)
    return RequestedSpeech(CORPUS_SEPARATOR.join(corpus.corpus_name for corpus in found), joined, tuple(notes))


def find_corpora(request: CorpusRequest) -> list[FoundCorpus]:
    """Return every corpus of a request.

    Of several corpora, `columns` and `speaker_from` apply to those of the adapter `folder` alone; the others name their
    speakers.

    Raises:
        UserError: a corpus is unknown, missing or given twice, or `columns` are given and no corpus has a table.
    """
    texts = request.texts
    as_name = request.as_name or ("folder" if request.columns and len(texts) == 1 else None)
    found = [find_corpus(text, as_name) for text in texts]
    if request.columns and not any(corpus.adapter_name == "folder" for corpus in found):
        raise UserError(
            f"{request.corpus} has no table whose columns could be mapped; --column is for a folder with metadata"
        )
    found = [
        replace(corpus, speaker_from=request.speaker_from, columns=request.columns)
        if len(found) == 1 or corpus.adapter_name == "folder"
        else corpus
        for corpus in found
    ]
    titles = [corpus.corpus_name for corpus in found]
    if len(set(titles)) < len(titles):
        raise UserError(f"{request.corpus!r} names a corpus twice")
    return found


def find_corpus(name_or_path: str, as_name: str | None = None) -> FoundCorpus:
    """Return a corpus by name or by path.

    A name is searched under `SER_CORPORA`, then among the fetched corpora, as `NAME`, then as `NAME-*`. A path is
    recognised by its file names unless `as_name` is its adapter. The corpus `demo` is synthesised where it is missing.

    Raises:
        UnknownChoice: the argument is neither a corpus name nor an existing path.
        CorpusError: the folder of the corpus does not exist, or no adapter recognises it.
    """
    if as_name is not None and as_name not in CORPORA:
        raise UnknownChoice("corpus", as_name, CORPORA)
    if name_or_path == "demo" and as_name is None:
        return FoundCorpus("demo", demo.ensure_corpus())
    if name_or_path in CORPORA:
        return FoundCorpus(as_name or name_or_path, _require_corpus(name_or_path))
    path = _expand_corpus_path(name_or_path)
    if not path.exists() and path.name != name_or_path:
        raise CorpusError(f"{path}: no such folder")
    if not path.exists():
        raise UnknownChoice("corpus", name_or_path, [*CORPORA, "or an existing folder"])
    if not path.is_dir():
        raise CorpusError(f"{path} is a file; a corpus is a folder")
    return FoundCorpus(as_name or _recognise_adapter(path), path.resolve())


def _expand_corpus_path(name_or_path: str) -> Path:
    """Return the path of a corpus that is not known by name: in the working directory, else under `SER_CORPORA`."""
    path, own = expand_path(name_or_path), corpora_folder()
    return own / name_or_path if not path.exists() and own is not None and (own / name_or_path).is_dir() else path


def fetched_folder() -> Path:
    """Return the folder into which `ser corpora fetch` downloads: `SER_CORPORA`, else `SER_HOME/corpora`."""
    return corpora_folder() or home() / "corpora"


def locate_corpus(name: str) -> Path | None:
    """Return the folder of the corpus `name` under `SER_CORPORA` or `SER_HOME/corpora`, None where there is none."""
    others = {other.replace("_", "-") for other in CORPORA if other != name}  # ravdess-song is not ravdess
    for place in filter(None, (corpora_folder(), home() / "corpora")):
        for spelling in dict.fromkeys((name, name.replace("_", "-"))):
            for path in (place / spelling, *sorted(place.glob(f"{spelling}-*"))):
                if path.is_dir() and path.name not in others:
                    return path
    return None


def _require_corpus(name: str) -> Path:
    path = locate_corpus(name)
    if path is not None:
        return path
    if corpora_folder() is None:
        raise CorpusError(
            f"{name} is not on this computer; fetch it: ser corpora fetch {name}, set SER_CORPORA to the folder that "
            "contains it, or give its path"
        )
    raise CorpusError(
        f"no folder {name} or {name}-* under SER_CORPORA={corpora_folder()}; get it with: ser corpora fetch {name}"
    )


def _recognise_adapter(root: Path) -> str:
    recordings = [path.relative_to(root) for path in list_audio_files(root, RECORDING_SUFFIXES)]
    paths = [path for path in recordings if path.suffix.lower() in AUDIO_SUFFIXES | VIDEO_SUFFIXES]
    if folder.has_table(root):
        return "folder"
    for name, adapter in CORPORA.items():
        # A majority, so that the adapter reports a single misnamed file, which would otherwise hide the corpus.
        if name != "folder" and 2 * sum(map(adapter.recognises, paths)) > len(paths):
            _refuse_conflicting_labels(root, name)
            return name
    if folder.recognises_folder(root, recordings):
        return "folder"
    if not recordings:
        raise CorpusError(f"{root} holds no audio ({', '.join(sorted(RECORDING_SUFFIXES))})")
    raise CorpusError(
        f"{root}: file names like {recordings[0].stem!r} fit no corpus, too few folders are named after emotions, and "
        f"there is no metadata.csv; choose the corpus with --as {'|'.join(CORPORA)}"
    )


def _refuse_conflicting_labels(root: Path, name: str) -> None:
    """Refuse clips whose name and whose folder are of different emotions."""
    for entry in CORPORA[name].utterances(root):
        if isinstance(entry, Utterance):
            folder_emotion = folder.find_folder_emotion(entry.path.relative_to(root))
            if folder_emotion not in (None, entry.emotion):
                raise CorpusError(
                    f"{entry.path}: the emotion of its {name} name is {entry.emotion}, of its folder {folder_emotion}; "
                    f"choose one with --as {name} or --as folder"
                )


def _reject_unencodable_path(entry: CorpusEntry) -> CorpusEntry:
    """Return a Misfit for a file name that is not UTF-8, which no manifest can store; else the entry."""
    try:
        str(entry.path).encode()
    except UnicodeEncodeError:
        return Misfit(Path(os.fsencode(entry.path).decode(errors="replace")), "its name is not UTF-8; rename the file")
    return entry


def _compile_speaker_pattern(text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UserError(f"--speaker-from {text!r} is not a regular expression: {error}") from error
    if pattern.groups != 1:
        raise UserError(f"--speaker-from {text!r} must have one group, the speaker, like '^([^/]+)/'")
    return pattern


def _assign_speaker(utterance: Utterance, root: Path, pattern: re.Pattern[str]) -> Utterance | Misfit:
    if utterance.speaker != speaker_name(utterance.corpus, None):
        raise UserError(
            f"--speaker-from is for corpora without speakers; {utterance.path.name} is by {utterance.speaker}"
        )
    within = PurePath(utterance.path).relative_to(root).as_posix()
    match = pattern.search(within)
    if match is None or not match[1]:
        return Misfit(utterance.path, f"--speaker-from {pattern.pattern!r} finds no speaker in {within!r}")
    return replace(utterance, speaker=speaker_name(utterance.corpus, match[1]))


def _refuse_speaker_variants(manifest: Manifest) -> None:
    """Refuse speakers that differ only in case, spaces or leading zeros: one speaker could be in two parts."""
    known: dict[str, str] = {}
    for speaker in manifest.speakers:
        plain = re.sub(r"(?<!\d)0+(?=\d)", "", speaker.casefold()).replace(" ", "")
        if known.setdefault(plain, speaker) != speaker:
            raise CorpusError(
                f"speakers {known[plain]!r} and {speaker!r} seem to be one speaker in two spellings; correct the table"
            )


def _format_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{reason} (files: {count})" for reason, count in counts.most_common())
