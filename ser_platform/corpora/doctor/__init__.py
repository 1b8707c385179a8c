"""Diagnosis of a corpus: what would spoil an experiment on it.

In: the examination of each recording, findings with their severity, the report and its page.
Not in: the command (`cli.doctor`).
"""
