"""Pretrained speech encoders: found by name, identified by the digest of their weights, run at a clip's own length."""

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
