"""The trained parameters of a model and their learning rates."""

from typing import Any, Protocol, runtime_checkable

from torch import nn

from ser_platform.settings import Settings


@runtime_checkable
class SupportsParameterGroups(Protocol):
    """A model with its own parameter groups."""

    def parameter_groups(self, settings: Settings) -> list[dict[str, Any]]: ...


def parameter_groups(model: nn.Module, settings: Settings) -> list[dict[str, Any]]:
    """Return an optimiser's groups of `params` with their peak `lr` and `weight_decay`; by default one group.

    Each trained parameter is in exactly one group; the order depends on model and settings only.
    """
    if isinstance(model, SupportsParameterGroups):
        return model.parameter_groups(settings)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [{"params": trained, "lr": settings.optimizer.lr, "weight_decay": settings.optimizer.weight_decay}]
