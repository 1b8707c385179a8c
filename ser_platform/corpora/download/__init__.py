"""Bringing a corpus from its official address.

In: resumable transfers, safe unpacking, and putting a corpus in place as a whole.
Not in: reading it (`corpora.datasets`).
"""
