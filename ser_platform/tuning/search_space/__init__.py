"""Search spaces: axes, budget and objectives, read from a YAML file.

Here: parsing and checks, feasibility, costs of a configuration, the features and teacher outputs that trials can need.
Not here: drawing configurations (`tuning.samplers`).
"""
