"""Options that several verbs share: which speech, under which labels, split how."""

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from ser_platform.errors import UserError

if TYPE_CHECKING:
    from ser_platform.corpora.corpus_lookup import CorpusRequest
    from ser_platform.features.dataset import DataRequest
    from ser_platform.settings import Registries, SettingValue

SPEECH_PANEL, SPLIT_PANEL = "Which speech", "How it is split"  # panels of --help

CorporaOption = Annotated[
    list[str],
    typer.Option(
        "--corpus", metavar="CORPUS", help="Name or folder; several: ravdess+emodb. cross_corpus names its own."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True)
class DataOptions:
    """What the user said of speech and split. `add_data_options` makes an option of every field."""

    as_name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Read the folder as this corpus.", rich_help_panel=SPEECH_PANEL),
    ] = None
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="RULES",
            help="Which emotions count as what (data.labels): as_labelled, shared, 4, 6, 7 or 8, then rules with "
            "commas, like '6, boredom -> neutral' or 'drop calm'.",
            rich_help_panel=SPEECH_PANEL,
        ),
    ] = None
    speaker_from: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Finds the speaker in a clip's path within its corpus: the one group, like '^([^/]+)/'.",
            rich_help_panel=SPEECH_PANEL,
        ),
    ] = None
    speaker_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of metadata.csv that says who speaks.", rich_help_panel=SPEECH_PANEL),
    ] = None
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="OURS=THEIRS",
            help="Column of metadata.csv that holds one of ours, like emotion=label or file_name=path.",
            rich_help_panel=SPEECH_PANEL,
        ),
    ] = None
    max_bad: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Largest share of unusable files.", rich_help_panel=SPEECH_PANEL)
    ] = 0.05
    protocol: Annotated[
        str | None,
        typer.Option(
            help="speaker (the default), loso, speaker_kfold:K, official, fixed:FILE.csv, "
            "cross_corpus:train=A,test=B or random.",
            rich_help_panel=SPLIT_PANEL,
        ),
    ] = None
    fold: Annotated[
        int | None,
        typer.Option(min=1, help="Which fold of a protocol that makes several.", rich_help_panel=SPLIT_PANEL),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seeds what the protocol leaves open; default 0.", rich_help_panel=SPLIT_PANEL),
    ] = None
    allow_leaky_split: Annotated[
        bool,
        typer.Option(
            "--allow-leaky-split",
            help="Allow a split that leaks; all that comes of it is stamped.",
            rich_help_panel=SPLIT_PANEL,
        ),
    ] = False

    def corpus_request(self, corpus: str) -> "CorpusRequest":
        """Return the request for this speech.

        Raises:
            UserError: options contradict each other, or `--column` is no OURS=THEIRS.
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
            raise UserError("--speaker-from and --speaker-column both say who speaks; give one")
        return CorpusRequest(corpus, self.as_name, self.speaker_from, mapped, self.labels or "as_labelled")

    def data_request(self, corpus: str) -> "DataRequest":
        """Return the request for this speech and split."""
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
    """Return what `--set` and `--labels` fix.

    Raises:
        UserError: a word is no `key=value`, or both say which labels.
    """
    from ser_platform.settings import parse_assignments

    parsed = parse_assignments(words or (), _registries_of(words or ()))
    if data.labels is None:
        return parsed
    if "data.labels" in parsed:
        raise UserError("--labels and --set data.labels=... say the same; give one")
    return {**parsed, "data.labels": data.labels}


def _registries_of(words: Iterable[str]) -> "Registries":
    """Return the names that registries hold where a word chooses among them: they take seconds to import."""
    from ser_platform.settings import SETTINGS

    names = {word.partition("=")[0] for word in words}
    if not any(setting.registered for name, setting in SETTINGS.items() if name in names):
        return {}
    from ser_platform.tuning.search_space.registered_names import REGISTRIES

    return REGISTRIES


def require_one_corpus(given: list[str]) -> str:
    """Return what `--corpus` says, "" where it was not given.

    Raises:
        UserError: it was given twice, of which command lines silently take the last.
    """
    if len(given) > 1:
        raise UserError(f"--corpus is given {len(given)} times; several corpora are joined: --corpus {'+'.join(given)}")
    return given[0] if given else ""


def add_data_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb with a parameter `task: DataOptions` every option of it, behind its own."""
    hints = get_type_hints(DataOptions, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(DataOptions)
    ]
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
        for parameter in inspect.signature(verb).parameters.values()
        if parameter.name != "data"
        for annotation in [get_type_hints(verb, include_extras=True)[parameter.name]]
    ]

    @functools.wraps(verb)
    def with_options(**given: Any) -> None:
        chosen: dict[str, Any] = {parameter.name: given.pop(parameter.name) for parameter in shared}
        chosen["columns"] = chosen["columns"] or None  # Typer may say [] of an option that was not given
        options = DataOptions(**chosen)
        verb(**given, data=options)

    with_options.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
    return with_options
