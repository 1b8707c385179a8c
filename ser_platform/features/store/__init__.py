"""The feature store: each file decoded once, each family computed once, memory-mapped.

Contains extraction, shards, the index of decoded files, locks, the access log and eviction.
Does not contain the computation of features (`features.families`) or the choice of columns (`features.views`).
"""
