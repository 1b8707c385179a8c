"""Training one configuration: knows a model, batches and a loss; nothing of Ray, MLflow or studies.

In: the loop, losses, precision, workers, checkpoints, and what settings mean for data and model.
Not in: models (`models`), the loss of a student (`distillation`), trials (`tuning`).
"""
