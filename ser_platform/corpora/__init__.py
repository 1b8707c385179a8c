"""Corpora: from files on disk to a validated table of utterances and a split by speaker.

In: `Manifest`, `Lineage`, facts about a corpus, finding a corpus by name or path, and the folders below.
Not in: features (`features`), label rules (`emotions`), models.
"""
