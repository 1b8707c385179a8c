"""MLflow: the only package that imports it.

In: runs of studies, the model registry, promotion, an offline queue for outages, the server.
Not in: what is logged (`workflows`), the gates themselves (`evaluation.promotion_gates`).
"""
