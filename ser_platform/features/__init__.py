"""Frame features: computed once, stored, and read through views.

Contains families, the store, views, augmentation and the dataset that training reads.
Does not contain models (`models`) or batches (`training.batches`).
"""
