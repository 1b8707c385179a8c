"""The model that a command uses: a registered version, or a bundle in a folder."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ser_platform.inference.bundle import Bundle

VERSION_HELP = "NAME (its champion), NAME@ALIAS or NAME/VERSION of a registered model"
MODEL_HELP = f"{VERSION_HELP}, or a folder that contains a model."


@dataclass(frozen=True)
class ChosenModel:
    """A verified bundle and its name. `version` is None where the bundle is read from a folder."""

    name: str
    version: str | None
    bundle: "Bundle"

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
        return ChosenModel(folder.resolve().name, None, read_bundle(folder))
    from ser_platform.tracking.mlflow_store import open_client
    from ser_platform.tracking.registry import find_model, load_bundle

    client = open_client()
    registered = find_model(client, text)
    return ChosenModel(registered.name, registered.version, load_bundle(client, registered))
