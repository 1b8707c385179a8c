"""Fits without gradient steps: ridge regression, least squares to logits, scikit-learn's estimators.

Their predictions are in `models.fitted_models`.
"""
