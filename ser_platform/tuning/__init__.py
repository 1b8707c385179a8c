"""Studies: search spaces, samplers, early stopping, execution on Ray, and reports.

In: everything that runs or describes one study.
Not in: the order of the steps of `ser tune` and `ser train` (`workflows`), training (`training`).
"""
