"""All private APIs of Ray Train that tuning uses: check them when Ray is upgraded.

They were read in Ray 2.60.0; `pyproject.toml` excludes versions in which they were not. `ray.train` exports the same
classes if `RAY_TRAIN_V2_ENABLED` is on.
"""

from typing import Any

from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.torch.torch_trainer import TorchTrainer

__all__ = ["FailureConfig", "LeanTorchTrainer", "RunConfig", "ScalingConfig", "TorchTrainer"]

UNNEEDED_CALLBACKS = ("DatasetsCallback", "PlacementGroupCleanerCallback")


class LeanTorchTrainer(TorchTrainer):
    """Ray Train's `TorchTrainer` without two of its actors.

    One manages data sets of Ray Data, which is not used. The other frees the workers' resources if the controller is
    killed: it queries Ray's dashboard, which a local cluster does not run, so that every run would wait 12 s at its
    end. Resources are freed with the job, and trials are not killed but stop themselves (`FitFolder.request_stop`).

    Ray 2.60.0: `DataParallelTrainer._create_default_callbacks` and the class names of its callbacks.
    """

    def _create_default_callbacks(self) -> list[Any]:
        return [each for each in super()._create_default_callbacks() if type(each).__name__ not in UNNEEDED_CALLBACKS]
