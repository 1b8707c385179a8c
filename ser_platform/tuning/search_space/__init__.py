"""Search spaces: from a YAML file to axes, budget and objectives.

In: parsing and checking, feasibility, costs of a configuration, what trials can ask for.
Not in: drawing configurations (`tuning.samplers`).
"""
