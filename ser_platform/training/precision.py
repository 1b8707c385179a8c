"""Precision of the forward pass: float32, bf16 or fp16. Weights and losses are float32."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ser_platform.errors import UserError
from ser_platform.settings import Settings

SUPPORTED_PRECISIONS = {"cpu": ("float32", "bf16"), "mps": ("float32",), "cuda": ("float32", "bf16", "fp16")}


@dataclass(frozen=True)
class Precision:
    """Precision of forward and backward pass. `dtype` None is float32; fp16 needs a `scaler` against underflow.

    Source: Micikevicius et al. (2018), arXiv:1710.03740.
    """

    device_type: str
    dtype: torch.dtype | None = None
    scaler: torch.amp.GradScaler | None = None

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context of the forward pass."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device_type, self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Compute the gradient of `loss`, scaled with fp16."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def step(self, optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], max_norm: float) -> None:
        """Clip the gradients of `parameters` to `max_norm` and update; fp16 skips updates with overflowed gradients.

        All workers have the same summed gradients, so they skip the same updates.
        """
        if self.scaler is None:
            nn.utils.clip_grad_norm_(parameters, max_norm)
            optimizer.step()
            return
        self.scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(parameters, max_norm)
        self.scaler.step(optimizer)
        self.scaler.update()


FLOAT32 = Precision("cpu")


def make_precision(settings: Settings, device: torch.device) -> Precision:
    """Return the precision `train.precision`; raises UserError where `device` does not support it."""
    name = settings.train.precision
    valid = SUPPORTED_PRECISIONS[device.type]
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        valid = ("float32", "fp16")
    if name not in valid:
        raise UserError(f"train.precision {name} is not available on {device}; choose from: {', '.join(valid)}")
    if name == "float32":
        return FLOAT32
    if name == "bf16":
        return Precision(device.type, torch.bfloat16)
    return Precision(device.type, torch.float16, torch.amp.GradScaler(device.type))
