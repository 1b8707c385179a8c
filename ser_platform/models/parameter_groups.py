"""Which of a model's parameters are trained, and how fast each."""

from typing import Any, Protocol, runtime_checkable

from torch import nn

from ser_platform.settings import Settings


@runtime_checkable
class SupportsParameterGroups(Protocol):
    """A model that trains some of its parameters slower than others, or not at all."""

    def parameter_groups(self, settings: Settings) -> list[dict[str, Any]]: ...


def parameter_groups(model: nn.Module, settings: Settings) -> list[dict[str, Any]]:
    """Return what an optimiser takes: groups of `params` with their peak `lr` and `weight_decay`.

    Together they hold every parameter that is trained, once, in an order that model and settings fix; by default they
    are one group.
    """
    if isinstance(model, SupportsParameterGroups):
        return model.parameter_groups(settings)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [{"params": trained, "lr": settings.optimizer.lr, "weight_decay": settings.optimizer.weight_decay}]
