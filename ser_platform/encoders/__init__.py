"""Pretrained speech encoders: found by name, known by the digest of their weights, run at a clip's own length."""
