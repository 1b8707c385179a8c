"""What tuning uses of Ray Train beyond its public interface: look here first when Ray is upgraded.

Everything was read in Ray 2.60.0; `pyproject.toml` excludes versions that were not. `ray.train` exports the same four
classes where the switch `RAY_TRAIN_V2_ENABLED` is on.
"""

from typing import Any

from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.torch.torch_trainer import TorchTrainer

__all__ = ["FailureConfig", "LeanTorchTrainer", "RunConfig", "ScalingConfig", "TorchTrainer"]

UNNEEDED_CALLBACKS = ("DatasetsCallback", "PlacementGroupCleanerCallback")


class LeanTorchTrainer(TorchTrainer):
    """Without two of Ray Train's actors.

    One holds data sets of Ray Data, of which there are none. The other frees the workers' places where the controller
    is killed: it asks Ray's dashboard, which a machine alone does not run, and has every run wait 12 s at its end for
    the answer. Places are freed with the job; a trial is never killed, it is asked to stop (`FitFolder.stop`).

    Ray 2.60.0: `DataParallelTrainer._create_default_callbacks` and the class names of its callbacks.
    """

    def _create_default_callbacks(self) -> list[Any]:
        return [each for each in super()._create_default_callbacks() if type(each).__name__ not in UNNEEDED_CALLBACKS]
