"""Measuring a model: intervals, paired gains, groups, calibration, promotion gates, the test ledger.

In: everything that is computed from predictions, and the model card.
Not in: analysis of a study's trials (`tuning.report`), the registry (`tracking`).
"""
