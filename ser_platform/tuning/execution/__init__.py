"""Trials and training runs on a Ray cluster: the only package that imports Ray, except Ray Serve's deployment.

In: the cluster, the code of worker processes, data sent to nodes, submitted jobs.
Not in: which trial runs next (`tuning.study`, `tuning.samplers`).
"""
