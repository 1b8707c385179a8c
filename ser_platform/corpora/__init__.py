"""Corpora: reads audio files into a validated table of utterances and splits the table by speaker.

In: `Manifest`, `Lineage`, the facts of each corpus, the search for a corpus by name or path, and the folders below.
Not in: features (`features`), label rules (`emotions`), models.
"""
