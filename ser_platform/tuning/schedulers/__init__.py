"""Early stopping of trials.

In: the rules (ASHA, median) and the rungs on disk.
Not in: Ray Tune, which applies them (`tuning.execution.tune_adapter`).
"""
