"""Models that are solved at once instead of being trained by gradient steps.

In: ridge regression, least squares to logits, scikit-learn's estimators, and which settings they accept.
Not in: their arithmetic when predicting (`models.fitted_models`).
"""
