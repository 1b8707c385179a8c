"""What a model reads of stored features: columns, frames, pooling and normalisation.

In: views, clips through a view, windows, loudness, the figure of one clip.
Not in: anything that computes a feature (`features.families`).
"""
