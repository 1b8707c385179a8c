"""Use cases, one a file: tune, train, extend, and the steps that they share.

In: the order of the work from a request to a registered candidate.
Not in: the command line (`cli`), single steps (`tuning`, `training`, `tracking`).
"""
