"""Reads numbers and truth values as YAML 1.2 and editors do: `1e-3` is a number, `off` and `no` are words.

PyYAML follows YAML 1.1, in which `1e-3` is a word and `off` is false.
"""

import re

import yaml

BOOL, FLOAT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"


class YamlLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the numbers and truth values of YAML 1.2."""


YamlLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != BOOL or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
YamlLoader.add_implicit_resolver(FLOAT, re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))
