"""Use cases, one in each file: tune, train, extend, and the steps that they share.

This package defines the order of the steps from a request to a registered candidate. The command line is in `cli`, the
steps are in `tuning`, `training` and `tracking`.
"""
