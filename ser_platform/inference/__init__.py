"""Using a model: the bundle, and the predictor that goes from an audio file to probabilities.

In: reading and writing bundles, 8-bit weights, latency.
Not in: the registry (`tracking`), evaluation on a corpus (`evaluation`).
"""
