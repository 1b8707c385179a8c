"""Every mistake of a search-space file is reported at once, by line, and none that only follows from another."""

from pathlib import Path

import pytest

from ser_platform.errors import SearchSpaceError
from ser_platform.tuning.search_space.space import Axis
from ser_platform.tuning.search_space.yaml_file import parse_space

BROKEN = """\
role: studnet
base:
  train.learning_rate: 0.1
  train.epochs: many
space:
  model.name: {choices: [mlp, bilstm]}
  model.hidden_size: {choice: [32, -1, x], when: {model.name: bilstm}}
  distill.alpha: {uniform: [0, 2]}
  optimizer.lr: {loguniform: [1e-4, 1e-2], q: 1}
  augment.masks: {int: [0, 2]}
points:
  - {model.name: bilstm, distill.alpha: 3}
  - {augment.masks: 7}
objective:
  - {metric: uar}
budget:
  n_trials: 3
  minutes: 0
sampler: {name: TPE}
scheduler: {name: asha, grace_epochs: 90}
Confirm: {trials: 1}
"""


def find_mistakes(text: str) -> list[str]:
    """Return the messages about a file, without its name."""
    with pytest.raises(SearchSpaceError) as refusal:
        parse_space(Path("x.yaml"), text)
    return [line.removeprefix("x.yaml:") for line in refusal.value.lines]


def test_every_mistake_is_reported_with_its_line_in_the_order_of_the_file() -> None:
    lines = [message.split(":")[0] for message in find_mistakes(BROKEN)]
    assert lines == ["1", "3", "4", "6", "7", "7", "8", "9", "12", "13", "15", "17", "18", "19", "21"]


def test_a_mistake_that_only_follows_from_another_is_not_reported() -> None:
    text = "role: student\nspace:\n  model.name: {choice: [gru, 3x]}\n"
    text += "  model.layers: {int: [1, 3], when: {model.name: gru}}\n"
    text += "points:\n  - {model.layers: 2, model.name: gru}\nsampler: {name: grid}\n"
    assert [message.split(":")[0] for message in find_mistakes(text)] == ["3"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("base: {learning_rate: 0.1}", "optimizer.lr"),
        ("base: {epochs: 3}", "train.epochs"),
        ("base: {Train.Epochs: 3}", "train.epochs"),
        ("base: {model.name: MLP}", "mlp"),
        ("space: {batch_size: {choice: [8]}}", "train.batch_size"),
        ("space: {model.layers: {categorical: [1, 2]}}", "choice"),
        ("space: {optimizer.lr: {log_uniform: [0.1, 1]}}", "loguniform"),
        ("Space: {}", "space"),
        ("search_space: {}", "space"),
        ("pruner: {name: asha}", "scheduler"),
        ("budget: {max_trials: 3}", "trials"),
        ("sampler: {name: Random}", "random"),
        ("scheduler: {grace_period: 3}", "grace_epochs"),
        ("objective: [{metric: UAR}]", "dev_uar"),
        ("space: {model.layers: {int: [1, 2]}}\npoints: [{n_layers: 1}]", "model.layers"),
    ],
)
def test_a_word_of_other_tools_or_in_another_case_is_refused_with_ours(text: str, meant: str) -> None:
    (message,) = find_mistakes(f"role: student\n{text}\n")
    assert f"did you mean {meant}" in message


def test_a_setting_outside_its_section_is_refused_with_the_sections() -> None:
    (message,) = find_mistakes("role: student\ntrain.epochs: 3\n")
    assert message == "2: unknown key 'train.epochs'; it is a setting: move it to base, or to space with a domain"


@pytest.mark.parametrize(
    "axis",
    [
        Axis("a", "int", (2, 8), 2, {}),
        Axis("a", "loguniform", (8, 512), None, {}),
        Axis("a", "uniform", (0.1, 0.7), 0.2, {}),
        Axis("a", "uniform", (0.0, 1.0), None, {}),
    ],
)
def test_a_domain_contains_the_same_values_as_in_optuna(axis: Axis) -> None:
    for value in (0.1, 0.3, 0.30000000000000004, 0.35, 0.7, 1, 1.5, 2, 4, 4.0, 5, 8, 9, 512, 513):
        try:
            axis.encode(value)
        except ValueError:
            is_inside = False
        else:
            is_inside = True
        assert is_inside == axis.distribution._contains(axis.distribution.to_internal_repr(value)), value
