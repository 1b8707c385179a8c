"""Pretrained speech encoders: found by name, identified by the digest of their weights, run at a clip's own length.

The modules need torch and are imported when first used: a command that only lists features starts without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ser_platform.encoders.encoder import Encoder
    from ser_platform.encoders.encoder_lookup import (
        find_default_encoder,
        find_encoder,
        list_local_encoders,
        register_encoder,
        resolve_pinned_name,
        save_encoder,
    )
    from ser_platform.encoders.states import SpeechEncoder, find_loud_frames

__all__ = [
    "Encoder",
    "SpeechEncoder",
    "find_default_encoder",
    "find_encoder",
    "find_loud_frames",
    "list_local_encoders",
    "register_encoder",
    "resolve_pinned_name",
    "save_encoder",
]

MODULES = ("encoder", "encoder_lookup", "states")

if not TYPE_CHECKING:  # mypy would accept any name of the package

    def __getattr__(name: str) -> object:
        for module in map(import_module, (f"{__name__}.{module}" for module in MODULES if name in __all__)):
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
