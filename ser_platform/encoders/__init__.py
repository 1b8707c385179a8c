"""Pretrained speech encoders: found by name, known by the digest of their weights, run at a clip's own length."""

from ser_platform.encoders.encoder import Encoder
from ser_platform.encoders.encoder_lookup import (
    encoder_at_hand,
    encoders_here,
    find_encoder,
    keep,
    pinned_name,
    remember,
)
from ser_platform.encoders.states import SpeechEncoder, loud_frames

__all__ = [
    "Encoder",
    "SpeechEncoder",
    "encoder_at_hand",
    "encoders_here",
    "find_encoder",
    "keep",
    "loud_frames",
    "pinned_name",
    "remember",
]
