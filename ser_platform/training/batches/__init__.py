"""Batches of clips, which clips an epoch contains, and their random changes.

In: batches by length, sampling, augmentation on the device, fitting input scales.
Not in: stored copies of clips (`features.augmented_clips`).
"""
