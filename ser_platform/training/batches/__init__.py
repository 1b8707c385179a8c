"""Batches of clips: sampling, batches by length, augmentation on the device, input scales.

Stored augmented copies of clips are in `features.augmented_clips`.
"""
