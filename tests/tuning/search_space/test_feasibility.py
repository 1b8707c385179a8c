"""A space is refused before a study begins if none of its configurations can be trained."""

from pathlib import Path

import pytest

from ser_platform.errors import UserError
from ser_platform.tuning.search_space.feasibility import refuse_infeasible
from ser_platform.tuning.search_space.yaml_file import parse_space

HEAD = "role: student\nbase: {model.name: separable_cnn, distill.alpha: 0.5, distill.hint: mse}\n"


def space_of(axes: str):
    return parse_space(Path("x.yaml"), f"{HEAD}space: {axes}\n")


def test_the_error_names_fixed_settings_that_contradict_each_other():
    with pytest.raises(UserError, match="^x: no configuration .* needs a teacher: raise distill.alpha"):
        refuse_infeasible(space_of("{distill.alpha: {choice: [0.0]}, model.width: {int: [4, 8]}}"))


def test_a_space_with_some_infeasible_configurations_is_accepted():
    refuse_infeasible(space_of("{distill.alpha: {choice: [0.0, 0.5]}}"))


def test_the_only_feasible_configuration_may_be_a_point():
    wide = "model.width: {int: [4, 64]}, distill.alpha: {fixed: 0.0, when: {model.width: [%s]}}"
    refused = ", ".join(str(width) for width in range(4, 65) if width != 9)
    refuse_infeasible(space_of(f"{{{wide % refused}}}\npoints: [{{model.width: 9}}]"))


def test_the_only_feasible_configuration_of_a_finite_space_is_found():
    wide = "model.width: {int: [4, 256]}, distill.alpha: {fixed: 0.0, when: {model.width: [%s]}}"
    refuse_infeasible(space_of(f"{{{wide % ', '.join(str(width) for width in range(4, 257) if width != 250)}}}"))
