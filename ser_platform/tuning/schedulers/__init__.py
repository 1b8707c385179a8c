"""Early stopping: which trials go on.

In: the rules (ASHA, median) and the rungs on disk.
Not in: Ray Tune, which applies them (`tuning.execution.tune_adapter`).
"""
