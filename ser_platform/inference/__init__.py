"""Inference: the bundle of a model, and the predictor that maps an audio file to probabilities.

In: reading and writing bundles, 8-bit weights, latency.
Not in: the registry (`tracking`), evaluation on a corpus (`evaluation`).
"""
