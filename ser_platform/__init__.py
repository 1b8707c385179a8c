"""A Ray-distributed hyperparameter tuning platform for speech emotion recognition.

The Python API is what this module names; each function imports what it needs when it is called.
"""

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ser_platform.inference.model import Model

__version__ = "0.2.0"
__all__ = ["load"]


def load(model: "str | PathLike[str]") -> "Model":
    """Return a trained model, ready to predict; its files are verified against their digests first.

    Args:
        model: a registered model, `NAME` (its champion), `NAME@ALIAS` or `NAME/VERSION`, in the store that
            `MLFLOW_TRACKING_URI` names (default: `mlflow.db` in the working directory); or a bundle's folder.

    Raises:
        UserError: there is no such model.
        BundleError: its files are damaged or altered.
    """
    from ser_platform.workflows.chosen_model import load_model

    return load_model(model)
