"""The model that a command uses: a registered version, or a bundle in a folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ser_platform.inference.bundle import Bundle

VERSION_HELP = "NAME (its champion), NAME@ALIAS or NAME/VERSION of a registered model"
MODEL_HELP = f"{VERSION_HELP}, or a folder that contains a model."


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
