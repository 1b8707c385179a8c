"""One study, on disk and in the driver: its trials, its folder, its storage.

In: the recorder, requests, warm starts, the status line, the Pareto front.
Not in: Ray (`tuning.execution`), MLflow (`tracking`).
"""
