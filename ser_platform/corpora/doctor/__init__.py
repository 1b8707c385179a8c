"""Diagnosis of a corpus: finds errors that would spoil an experiment.

In: the measurement of each clip, findings with their level, the report and its page.
Not in: the command (`cli.doctor`).
"""
