"""Starting from a model that is there: its weights, on other speakers, other labels or a whole other corpus."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ser_platform.corpora.lineage import LINEAGE_LEAK_STAMP, count_leak
from ser_platform.corpora.splits.split import Split
from ser_platform.errors import UserError
from ser_platform.files import expand_path
from ser_platform.inference.bundle import Bundle, read_bundle
from ser_platform.models import build_model, fill_default_sizes
from ser_platform.settings import SETTINGS, Overrides, Settings
from ser_platform.tracking.mlflow_store import Client
from ser_platform.tracking.registry import find_model, load_bundle
from ser_platform.training.closed_form.closed_form_settings import describe_fitted_model, is_fitted_at_once
from ser_platform.training.configuration import feature_view
from ser_platform.training.loop import seed_everything

# What weights are of: taken over, and refused where the user asks for another.
WEIGHT_SETTING_PREFIXES = ("model.", "features.")
FIXED_INPUT_SETTINGS = ("data.level_dbfs",)
# Taken over, but the user's to change: they are of training, or of how much of a clip is heard.
CHANGEABLE_SETTINGS = (
    *("data.max_seconds", "data.skip_s", "data.min_seconds", "data.pad", "data.trim_db"),
    *("features.dtype", "model.dropout", "model.tuning", "model.tuned_layers", "model.adversary"),
    "model.checkpointing",
)


@dataclass(frozen=True)
class InitialModel:
    """The model that a training starts from; `title` names it in messages and on what comes of it."""

    title: str
    bundle: Bundle

    @property
    def inherited_settings(self) -> Overrides:
        """The settings that its weights and its hearing come with."""
        own = self.bundle.settings
        return {
            name: own.value(name)
            for name in SETTINGS
            if name.startswith(WEIGHT_SETTING_PREFIXES) or name in (*FIXED_INPUT_SETTINGS, *CHANGEABLE_SETTINGS)
        }

    def refuse_incompatible(self, settings: Settings) -> None:
        """Refuse to start a configuration that these weights are not of.

        Raises:
            UserError: names what differs.
        """
        if is_fitted_at_once(settings):
            raise UserError(f"--init {self.title}: {describe_fitted_model(settings)} is fitted at once, from nothing")
        theirs, ours = fill_default_sizes(self.bundle.settings), fill_default_sizes(settings)
        differing = [
            name
            for name in self.inherited_settings
            if name not in CHANGEABLE_SETTINGS and theirs.value(name) != ours.value(name)
        ]
        if differing:
            differences = ", ".join(
                f"{name} is {_format_value(theirs.value(name))} there, not {_format_value(ours.value(name))}"
                for name in differing
            )
            raise UserError(
                f"--init {self.title} has another architecture or view: {differences}; leave these settings out"
            )

    def make_state(self, settings: Settings, labels: Sequence[str]) -> dict[str, Tensor]:
        """Return weights to start from: the model's, and of the classifier the rows of labels that both know.

        The other rows are drawn by the configuration's seed.

        Raises:
            UserError: the weights are of another shape.
        """
        n_features = feature_view(settings).n_features
        seed_everything(settings.seed)
        state = build_model(settings, n_features, len(labels)).state_dict()
        head = _find_emotion_weights(settings, n_features, len(labels))
        theirs = dict(self.bundle.state)
        misfits = [name for name in state.keys() | theirs.keys() if not _has_same_shape(name, state, theirs, head)]
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

    def describe_transfer(self, labels: Sequence[str]) -> str:
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

    def count_leaked_clips(self, split: Split, is_allowed: bool) -> int:
        """Return how many dev and test clips of a split this model, or one before it, has heard, or their speakers.

        Dev may have selected it, as it selects among a study's trials; it may not have trained it.

        Raises:
            LineageLeak: there are any, and `is_allowed` is not set; names them.
        """
        return count_leak(self.bundle.lineage, split, f"--init {self.title}", selected_on_dev=False, allow=is_allowed)

    def format_stamp(self, n_leaked: int) -> str:
        """Return what is stamped on all that comes of a start which has heard so many dev and test clips."""
        clips = f"{n_leaked} dev or test clips or their speakers"
        return f" ({LINEAGE_LEAK_STAMP}: {self.title}, which it starts from, heard {clips})"


def find_initial_model(client: Client, reference: str) -> InitialModel:
    """Return the model to start from: a folder with a bundle, or a registered one as `find_model` reads it.

    Raises:
        UserError: there is no such model.
    """
    if not reference.startswith("models:/") and (folder := expand_path(reference)).is_dir():
        if not (folder / "bundle.json").exists():
            raise UserError(f"--init {reference}: this folder holds no bundle (bundle.json is missing)")
        return InitialModel(str(Path(reference)), read_bundle(folder))
    found = find_model(client, reference)
    return InitialModel(found.title, load_bundle(client, found))


def _find_emotion_weights(settings: Settings, n_features: int, n_emotions: int) -> set[str]:
    """Return the names of the weights that have a row for each emotion: those that one emotion more makes longer."""
    with torch.device("meta"):
        few = build_model(settings, n_features, n_emotions, load_weights=False).state_dict()
        more = build_model(settings, n_features, n_emotions + 1, load_weights=False).state_dict()
    return {name for name, value in few.items() if len(value.shape) and value.shape[0] != more[name].shape[0]}


def _has_same_shape(name: str, state: dict[str, Tensor], theirs: dict[str, Tensor], head: set[str]) -> bool:
    if name not in state or name not in theirs:
        return False
    first = 1 if name in head else 0
    return state[name].shape[first:] == theirs[name].shape[first:]


def _format_value(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
