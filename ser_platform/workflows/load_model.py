"""A model by its registered name or its folder, verified and ready to predict."""

from os import PathLike, fspath

from ser_platform.files import expand_path
from ser_platform.inference.bundle import read_bundle
from ser_platform.inference.model import Model
from ser_platform.inference.predictor import Predictor


def load_model(model: str | PathLike[str]) -> Model:
    """Return the model that `model` names; see `ser_platform.load`.

    Raises:
        UserError: no folder or registered model has that name.
        BundleError: its files are damaged or altered.
    """
    folder = expand_path(fspath(model))
    if folder.is_dir():
        return Model(folder.resolve().name, None, Predictor(read_bundle(folder)))
    # MLflow takes seconds to import: a model in a folder does without.
    from ser_platform.tracking.mlflow_store import open_client
    from ser_platform.tracking.registry import find_model, load_bundle

    client = open_client()
    registered = find_model(client, fspath(model))
    return Model(registered.name, registered.version, Predictor(load_bundle(client, registered)))
