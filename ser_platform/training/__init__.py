"""Training of one configuration, independent of Ray, MLflow and studies.

Contains the loop, losses, precision, workers, checkpoints, and the translation of settings to data and model.
Elsewhere: models (`models`), the loss of a student (`distillation`), trials (`tuning`).
"""
