"""Trials and fits on a Ray cluster: the only package that imports Ray.

In: the cluster, what runs in a worker process, data sent to nodes, jobs.
Not in: which trial runs next (`tuning.study`, `tuning.samplers`).
"""
