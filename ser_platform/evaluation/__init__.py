"""Evaluation of models: intervals, paired gains, groups, calibration, promotion gates, the test ledger.

In: what is computed from predictions, and the model card.
Not in: analysis of a study's trials (`tuning.report`), the registry (`tracking`).
"""
