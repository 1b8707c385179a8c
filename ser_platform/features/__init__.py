"""Frame features: computed once, stored, and read through views.

In: families, the store, views, augmentation, and the dataset that a training reads.
Not in: models, which know only widths and lengths (`models`); batches (`training.batches`).
"""
