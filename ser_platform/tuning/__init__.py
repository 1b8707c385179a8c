"""A study: the search space, what proposes and stops trials, their execution on Ray, and the report.

In: everything that runs or describes one study.
Not in: the order of the steps of `ser tune` and `ser train` (`workflows`), training (`training`).
"""
