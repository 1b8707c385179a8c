"""Downloads a corpus from its official address.

In: resumable downloads, safe unpacking, and moving the complete corpus to its place.
Not in: reading the corpus (`corpora.datasets`).
"""
