"""Training from the weights of an existing model, on other speakers, other labels or another corpus."""

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

# Settings that the weights depend on: they are inherited, and another value is refused.
WEIGHT_SETTING_PREFIXES = ("model.", "features.")
FIXED_INPUT_SETTINGS = ("data.level_dbfs",)
# Inherited settings that the user may change: they concern training, or the part of a clip that is used.
CHANGEABLE_SETTINGS = (
    *("data.max_seconds", "data.skip_s", "data.min_seconds", "data.pad", "data.trim_db"),
    *("features.dtype", "model.dropout", "model.tuning", "model.tuned_layers", "model.adversary"),
    "model.checkpointing",
)


@dataclass(frozen=True)
class InitialModel:
    """The model that a training starts from; `title` is its name in messages and in provenance."""

    title: str
    bundle: Bundle

    @property
    def inherited_settings(self) -> Overrides:
        """The model's settings of architecture, features and input."""
        own = self.bundle.settings
        return {
            name: own.value(name)
            for name in SETTINGS
            if name.startswith(WEIGHT_SETTING_PREFIXES) or name in (*FIXED_INPUT_SETTINGS, *CHANGEABLE_SETTINGS)
        }

    def refuse_incompatible(self, settings: Settings) -> None:
        """Refuse a configuration that cannot start from these weights.

        Raises:
            UserError: names the settings that differ.
        """
        if is_fitted_at_once(settings):
            raise UserError(
                f"--init {self.title}: {describe_fitted_model(settings)} is fitted in one step; leave --init out"
            )
        theirs, ours = fill_default_sizes(self.bundle.settings), fill_default_sizes(settings)
        differing = [
            name
            for name in self.inherited_settings
            if name not in CHANGEABLE_SETTINGS and theirs.value(name) != ours.value(name)
        ]
        if differing:
            differences = ", ".join(
                f"{name} is {_format_value(theirs.value(name))}, not {_format_value(ours.value(name))}"
                for name in differing
            )
            raise UserError(
                f"--init {self.title} has another architecture or other features: {differences}; "
                "leave these settings out"
            )

    def make_state(self, settings: Settings, labels: Sequence[str]) -> dict[str, Tensor]:
        """Return initial weights: those of the model, with the classifier's rows of labels that both have in common.

        The rows of new labels are random, with the configuration's seed.

        Raises:
            UserError: the weights have another shape.
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
        """Return one line about the weights that are used."""
        line = f"starts from {self.title} ({self.bundle.provenance.get('corpus', 'unknown')})"
        if tuple(labels) == self.bundle.labels:
            return f"{line}, which has the same emotions: all weights are used"
        kept = [label for label in labels if label in self.bundle.labels]
        new = [label for label in labels if label not in self.bundle.labels]
        gone = [label for label in self.bundle.labels if label not in labels]
        parts = [
            f"{', '.join(names)} {what}"
            for names, what in ((kept, "kept"), (new, "random at first"), (gone, "dropped"))
            if names
        ]
        return f"{line}; its classifier has one row for each emotion: {'; '.join(parts)}"

    def count_leaked_clips(self, split: Split, is_allowed: bool) -> int:
        """Return the number of dev and test clips that this model or its ancestors were trained on, or their speakers.

        The model may have been selected on dev, like the trials of a study, but not trained on it.

        Raises:
            LineageLeak: there are such clips and `is_allowed` is False; names them.
        """
        return count_leak(self.bundle.lineage, split, f"--init {self.title}", selected_on_dev=False, allow=is_allowed)

    def format_stamp(self, n_leaked: int) -> str:
        """Return the stamp for results of an initial model that was trained on `n_leaked` dev and test clips."""
        clips = f"{n_leaked} dev or test clips or their speakers"
        return f" ({LINEAGE_LEAK_STAMP}: the initial model {self.title} was trained on {clips})"


def find_initial_model(client: Client, reference: str) -> InitialModel:
    """Return the initial model: the bundle of a folder, or a registered model with a reference for `find_model`.

    Raises:
        UserError: there is no such model.
    """
    if not reference.startswith("models:/") and (folder := expand_path(reference)).is_dir():
        if not (folder / "bundle.json").exists():
            raise UserError(f"--init {reference}: this folder contains no model (bundle.json is missing)")
        return InitialModel(str(Path(reference)), read_bundle(folder))
    found = find_model(client, reference)
    return InitialModel(found.title, load_bundle(client, found))


def _find_emotion_weights(settings: Settings, n_features: int, n_emotions: int) -> set[str]:
    """Return the names of the weights with a row for each emotion: those that one more emotion makes longer."""
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
