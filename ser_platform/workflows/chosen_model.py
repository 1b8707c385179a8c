"""The model with a given reference: a registered version, or a bundle in a folder.

MLflow takes seconds to import: a model in a folder is read without it.
"""

from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ser_platform.inference.bundle import Bundle
    from ser_platform.inference.model import Model


@dataclass(frozen=True)
class ChosenModel:
    """A verified bundle, its name and its files. `version` and `digest` are None where it was read from a folder."""

    name: str
    version: str | None
    bundle: "Bundle"
    folder: Path
    digest: str | None

    @property
    def title(self) -> str:
        return self.name if self.version is None else f"{self.name} v{self.version}"


def load_chosen_model(text: str) -> ChosenModel:
    """Read the model with the reference `text`.

    Raises:
        UserError: there is no such model.
        BundleError: the model is damaged or altered.
    """
    from ser_platform.files import expand_path
    from ser_platform.inference.bundle import read_bundle

    folder = expand_path(text)
    if folder.is_dir():
        return ChosenModel(folder.resolve().name, None, read_bundle(folder), folder, None)
    from ser_platform.tracking.mlflow_store import open_client
    from ser_platform.tracking.registry import download_bundle, find_model

    client = open_client()
    registered = find_model(client, text)
    folder, digest = download_bundle(client, registered), registered.tags.get("digest", "missing")
    return ChosenModel(registered.name, registered.version, read_bundle(folder, digest), folder, digest)


def load_model(model: "str | PathLike[str]") -> "Model":
    """Return the model with the reference `model`, ready to predict; see `ser_platform.load`."""
    from ser_platform.inference.model import Model
    from ser_platform.inference.predictor import Predictor

    chosen = load_chosen_model(fspath(model))
    return Model(chosen.name, chosen.version, Predictor(chosen.bundle))
