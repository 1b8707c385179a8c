"""Train, dev and test by speaker.

In: `Split`, the protocols that make splits, and tables in which a user assigns clips to parts.
Not in: folds inside a trial (`tuning.execution.cross_validation`).
"""
