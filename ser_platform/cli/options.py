"""Options that several verbs share: the corpus, its labels and its split."""

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from ser_platform.errors import UserError

if TYPE_CHECKING:
    from ser_platform.corpora.corpus_lookup import CorpusRequest
    from ser_platform.features.dataset import DataRequest
    from ser_platform.settings import Registries, SettingValue

Verb = Callable[..., None]
DAY_S = 86_400  # seconds
CORPUS_HELP = "Corpus name or folder; join several with +, like ravdess+emodb."
_speech_option = functools.partial(typer.Option, rich_help_panel="Corpus and labels")
_split_option = functools.partial(typer.Option, rich_help_panel="Split")

VERSION_HELP = "NAME (its champion), NAME@ALIAS or NAME/VERSION of a registered model"
MODEL_HELP = f"{VERSION_HELP}, or a folder that contains a model."

CorpusArgument = Annotated[str, typer.Argument(metavar="CORPUS", help=CORPUS_HELP)]
CorporaOption = Annotated[list[str], typer.Option("--corpus", metavar="CORPUS", help=CORPUS_HELP)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would be freed; remove nothing.")]
OlderThanOption = Annotated[
    float | None, typer.Option(metavar="DAYS", min=0.0, help="Also remove what was last used more than DAYS days ago.")
]


def format_examples(first: str, second: str) -> str:
    """Return the end of a verb's help: two commands to copy."""
    return f"Examples:\n\n{first}\n\n{second}"


@dataclass(frozen=True)
class DataOptions:
    """The user's options for the corpus and its split. `add_data_options` adds an option for each field to a verb."""

    as_name: Annotated[
        str | None, _speech_option("--as", metavar="NAME", help="Read the folder as this corpus, like emodb.")
    ] = None
    labels: Annotated[
        str | None,
        _speech_option(
            metavar="RULES",
            help="Emotions to use (data.labels): as_labelled (default), shared, 4, 6, 7 or 8, then rules separated by "
            "commas, like '6, boredom -> neutral' or 'drop calm'.",
        ),
    ] = None
    speaker_from: Annotated[
        str | None,
        _speech_option(
            metavar="REGEX",
            help="Regular expression whose one group matches the speaker in a clip's path within the corpus, like "
            "'^([^/]+)/'.",
        ),
    ] = None
    speaker_column: Annotated[
        str | None, _speech_option(metavar="NAME", help="Column of metadata.csv that contains the speaker.")
    ] = None
    columns: Annotated[
        list[str] | None,
        _speech_option(
            "--column",
            metavar="OURS=THEIRS",
            help="Use column THEIRS of metadata.csv as OURS, like emotion=label or file_name=path; repeatable.",
        ),
    ] = None
    max_bad: Annotated[
        float, _speech_option(metavar="SHARE", min=0.0, max=1.0, help="Largest accepted share of unusable files.")
    ] = 0.05
    protocol: Annotated[
        str | None,
        _split_option(
            help="speaker (default), loso, speaker_kfold:K, official, fixed:FILE.csv, cross_corpus:train=A,test=B "
            "(without a corpus) or random."
        ),
    ] = None
    fold: Annotated[
        int | None, _split_option(min=1, help="Use only this fold of a protocol with several folds, from 1.")
    ] = None
    seed: Annotated[int | None, _split_option(min=0, help="Seed of the split; default: 0.")] = None
    allow_leaky_split: Annotated[
        bool,
        _split_option(
            "--allow-leaky-split",
            help="Accept a split with speakers or clips in both train and test; results are marked as leaky.",
        ),
    ] = False

    def corpus_request(self, corpus: str) -> "CorpusRequest":
        """Return the request for this corpus.

        Raises:
            UserError: options contradict each other, or `--column` is not OURS=THEIRS.
        """
        from ser_platform.corpora.corpus_lookup import CorpusRequest

        mapped = {}
        for word in self.columns or ():
            ours, equals, theirs = word.partition("=")
            if not (ours and equals and theirs):
                raise UserError(f"--column takes OURS=THEIRS, like emotion=label; got {word!r}")
            mapped[ours] = theirs
        if self.speaker_column is not None:
            mapped["speaker"] = self.speaker_column
        if self.speaker_from is not None and "speaker" in mapped:
            raise UserError("--speaker-from and --speaker-column both define the speaker; give one of them")
        return CorpusRequest(corpus, self.as_name, self.speaker_from, mapped, self.labels or "as_labelled")

    def data_request(self, corpus: str) -> "DataRequest":
        """Return the request for this corpus and its split."""
        from ser_platform.features.dataset import DataRequest

        return DataRequest(
            self.corpus_request(corpus),
            self.protocol or "speaker",
            self.fold,
            self.seed or 0,
            self.allow_leaky_split,
            self.max_bad,
        )


def parse_fixed_settings(words: list[str] | None, data: DataOptions) -> "dict[str, SettingValue]":
    """Return the settings fixed by `--set` and `--labels`.

    Raises:
        UserError: a word is not `key=value`, or both options set the labels.
    """
    from ser_platform.settings import parse_assignments

    parsed = parse_assignments(words or (), _import_registries(words or ()))
    if data.labels is None:
        return parsed
    if "data.labels" in parsed:
        raise UserError("--labels and --set data.labels=... set the same setting; give one of them")
    return {**parsed, "data.labels": data.labels}


def _import_registries(words: Iterable[str]) -> "Registries":
    """Return the registered names where `words` set one of them, else nothing: importing them takes seconds."""
    from ser_platform.settings import SETTINGS

    names = {word.partition("=")[0] for word in words}
    if not any(setting.registered for name, setting in SETTINGS.items() if name in names):
        return {}
    from ser_platform.tuning.search_space.registered_names import REGISTRIES

    return REGISTRIES


def require_one_corpus(given: list[str]) -> str:
    """Return the value of `--corpus`, "" where it is not given.

    Raises:
        UserError: it is given more than once.
    """
    if len(given) > 1:
        raise UserError(f"--corpus is given {len(given)} times; join several corpora: --corpus {'+'.join(given)}")
    return given[0] if given else ""


def add_options(*names: str) -> Callable[[Verb], Verb]:
    """Return a decorator that replaces a verb's parameter `data: DataOptions` by options for these fields of it."""
    hints = get_type_hints(DataOptions, include_extras=True)
    defaults = {field.name: field.default for field in fields(DataOptions)}
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [inspect.Parameter(name, keyword, default=defaults[name], annotation=hints[name]) for name in names]

    def decorate(verb: Verb) -> Verb:
        own_hints = get_type_hints(verb, include_extras=True)
        own = [
            parameter.replace(kind=keyword, annotation=own_hints[parameter.name])
            for parameter in inspect.signature(verb).parameters.values()
            if parameter.name != "data"
        ]

        @functools.wraps(verb)
        def call_verb(**given: Any) -> None:
            chosen: dict[str, Any] = {name: given.pop(name) for name in names}
            chosen["columns"] = chosen.get("columns") or None  # Typer passes [] for an option that is not given
            verb(**given, data=DataOptions(**chosen))

        call_verb.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        call_verb.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
        return call_verb

    return decorate


add_data_options = add_options(*(field.name for field in fields(DataOptions)))
