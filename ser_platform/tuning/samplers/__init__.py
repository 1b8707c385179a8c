"""Samplers of Optuna that propose the configurations of a study.

In: the factory, the grid, and samplers with a bounded history.
Not in: early stopping (`tuning.schedulers`).
"""
