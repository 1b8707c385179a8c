"""The model that a command is given: a registered version, or a folder."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ser_platform.inference.bundle import Bundle

MODEL_HELP = "NAME (its champion), NAME@ALIAS or NAME/VERSION of a registered model, or a folder that holds one."


@dataclass(frozen=True)
class ChosenModel:
    """A verified bundle, and what to call it. `version` is None of a folder."""

    name: str
    version: str | None
    bundle: "Bundle"

    @property
    def title(self) -> str:
        return self.name if self.version is None else f"{self.name} v{self.version}"


def load_chosen_model(text: str) -> ChosenModel:
    """Read the model that `text` names.

    Raises:
        UserError: there is none.
        BundleError: it is damaged or altered.
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
