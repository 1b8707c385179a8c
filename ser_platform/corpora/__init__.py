"""Corpora: manifests, splits, lineage, adapters, audio, downloads, the synthetic corpus, the doctor."""
