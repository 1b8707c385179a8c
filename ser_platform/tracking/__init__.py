"""Tracking with MLflow; no other package imports it.

In: runs of studies, the model registry, promotion, an offline queue for outages, the server.
Not in: the choice of what is logged (`workflows`), the gates (`evaluation.promotion_gates`).
"""
