"""Starting from a model that is there: its weights, on other speakers, other labels or a whole other corpus."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ser_platform.corpora.lineage import SAW, count_leak
from ser_platform.corpora.splits.split import Split
from ser_platform.errors import UserError
from ser_platform.files import expanded
from ser_platform.inference.bundle import Bundle, read_bundle
from ser_platform.models import build_model, with_sizes
from ser_platform.settings import Settings
from ser_platform.tracking.mlflow_store import Client
from ser_platform.tracking.registry import find_model, load
from ser_platform.training.closed_form.closed_form_settings import is_fitted, what_is_fitted
from ser_platform.training.configuration import feature_view
from ser_platform.training.loop import seed_everything

# What weights are of: taken over, and refused where the user asks for another.
OF_WEIGHTS = ("model.", "features.")
OF_HEARING = ("data.level_dbfs",)
# Taken over, but the user's to change: they are of training, or of how much of a clip is heard.
OPEN = (
    *("data.max_seconds", "data.skip_s", "data.min_seconds", "data.pad", "data.trim_db"),
    *("features.dtype", "model.dropout", "model.tuning", "model.tuned_layers", "model.adversary"),
    "model.checkpointing",
)


@dataclass(frozen=True)
class Ancestor:
    """The model that a training starts from; `title` names it in messages and on what comes of it."""

    title: str
    bundle: Bundle

    @property
    def settings(self) -> Settings:
        """The settings that its weights and its hearing come with."""
        own = self.bundle.settings
        return {
            name: value for name, value in own.items() if name.startswith(OF_WEIGHTS) or name in (*OF_HEARING, *OPEN)
        }

    def refuse_unfit(self, settings: Settings) -> None:
        """Refuse to start a configuration that these weights are not of.

        Raises:
            UserError: names what differs.
        """
        if is_fitted(settings):
            raise UserError(f"--init {self.title}: {what_is_fitted(settings)} is fitted at once, from nothing")
        theirs, ours = with_sizes(self.bundle.settings), with_sizes(settings)
        differing = [name for name in self.settings if name not in OPEN and theirs[name] != ours[name]]
        if differing:
            told = ", ".join(f"{name} is {_shown(theirs[name])} there, not {_shown(ours[name])}" for name in differing)
            raise UserError(f"--init {self.title} has another architecture or view: {told}; leave these settings out")

    def state(self, settings: Settings, labels: Sequence[str]) -> dict[str, Tensor]:
        """Return weights to start from: the model's, and of the classifier the rows of labels that both know.

        The other rows are drawn by the configuration's seed.

        Raises:
            UserError: the weights are of another shape.
        """
        n_features = feature_view(settings).n_features
        seed_everything(settings["seed"])
        state = build_model(settings, n_features, len(labels)).state_dict()
        head = _rows_of_emotions(settings, n_features, len(labels))
        theirs = dict(self.bundle.state)
        misfits = [name for name in state.keys() | theirs.keys() if not _fits(name, state, theirs, head)]
        if misfits:
            raise UserError(f"--init {self.title} has other weights than this model: {', '.join(sorted(misfits)[:4])}")
        rows = [(labels.index(label), old) for old, label in enumerate(self.bundle.labels) if label in labels]
        for name, value in theirs.items():
            if name not in head:
                state[name] = value
                continue
            for new, old in rows:
                state[name][new] = value[old]
        return state

    def told(self, labels: Sequence[str]) -> str:
        """Return one line that says what is taken over."""
        line = f"starts from {self.title} ({self.bundle.provenance.get('corpus', 'unknown')})"
        if tuple(labels) == self.bundle.labels:
            return f"{line}, which knows the same emotions: all weights are kept"
        kept = [label for label in labels if label in self.bundle.labels]
        new = [label for label in labels if label not in self.bundle.labels]
        gone = [label for label in self.bundle.labels if label not in labels]
        parts = [
            f"{', '.join(names)} {what}"
            for names, what in ((kept, "kept"), (new, "begin at random"), (gone, "dropped"))
            if names
        ]
        return f"{line}; its classifier is replaced, a row an emotion: {'; '.join(parts)}"

    def leak(self, split: Split, allow: bool) -> int:
        """Return how many dev and test clips of a split this model, or one before it, has heard, or their speakers.

        Dev may have selected it, as it selects among a study's trials; it may not have trained it.

        Raises:
            LineageLeak: there are any, and `allow` is not set; names them.
        """
        return count_leak(self.bundle.lineage, split, f"--init {self.title}", selected_on_dev=False, allow=allow)

    def stamp(self, heard: int) -> str:
        """Return what is stamped on all that comes of a start which has heard so many dev and test clips."""
        return f" ({SAW}: {self.title}, which it starts from, heard {heard} dev or test clips or their speakers)"


def find_ancestor(client: Client, reference: str) -> Ancestor:
    """Return the model to start from: a folder with a bundle, or a registered one as `find_model` reads it.

    Raises:
        UserError: there is no such model.
    """
    if not reference.startswith("models:/") and (folder := expanded(reference)).is_dir():
        if not (folder / "bundle.json").exists():
            raise UserError(f"--init {reference}: this folder holds no bundle (bundle.json is missing)")
        return Ancestor(str(Path(reference)), read_bundle(folder))
    found = find_model(client, reference)
    return Ancestor(found.title, load(client, found))


def _rows_of_emotions(settings: Settings, n_features: int, n_emotions: int) -> set[str]:
    """Return the names of the weights that have a row for each emotion: those that one emotion more makes longer."""
    with torch.device("meta"):
        few = build_model(settings, n_features, n_emotions, weights=False).state_dict()
        more = build_model(settings, n_features, n_emotions + 1, weights=False).state_dict()
    return {name for name, value in few.items() if len(value.shape) and value.shape[0] != more[name].shape[0]}


def _fits(name: str, state: dict[str, Tensor], theirs: dict[str, Tensor], head: set[str]) -> bool:
    if name not in state or name not in theirs:
        return False
    first = 1 if name in head else 0
    return state[name].shape[first:] == theirs[name].shape[first:]


def _shown(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
