"""A Ray-distributed hyperparameter-tuning platform for speech emotion recognition."""

__version__ = "0.1.0"
