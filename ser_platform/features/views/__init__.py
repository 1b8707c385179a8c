"""Views of stored features: the columns and frames that are a model's input, their pooling and normalisation.

Contains views, clips through a view, windows, loudness and the figure of one clip.
Does not contain the computation of features (`features.families`).
"""
