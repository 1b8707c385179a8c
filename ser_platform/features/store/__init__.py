"""The feature store: each file decoded once, each family computed once, memory-mapped.

In: extraction, shards, the index of decoded files, locks, the access log, eviction.
Not in: how a feature is computed (`features.families`), which columns a model reads (`features.views`).
"""
