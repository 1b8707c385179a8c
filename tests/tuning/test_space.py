"""A search space is checked whole before anything starts: every refusal names the line and what is valid."""

from pathlib import Path

import optuna
import pytest

from ser_platform.errors import SpaceError, UserError
from ser_platform.tuning.space import Constraint, SchedulerPlan, Space
from ser_platform.tuning.space_file import read_space, space_files

EXAMPLE = """\
role: student
base:
  train.epochs: 30
space:
  model.name:            {choice: [lite_cnn, bilstm, attention_bilstm, cnn_bilstm]}
  model.hidden_size:     {choice: [32, 64, 128], when: {model.name: [bilstm, attention_bilstm, cnn_bilstm]}}
  features.sets:         {subset: [log_mel, mfcc, zcr, rms], min: 1, when: {model.name: [bilstm, attention_bilstm]}}
  data.max_seconds:      {uniform: [1.0, 5.0], step: 0.5}
  distill.temperature:   {loguniform: [1, 8]}
  distill.alpha:         {uniform: [0, 0.95]}
  optimizer.lr:          {loguniform: [1.0e-4, 1.0e-2]}
objective:
  - {metric: dev_uar, direction: maximize}
constraints:
  - {metric: parameters, at_most: 250000}
budget:    {trials: 64, minutes: 60}
sampler:   {name: tpe, seed: 0}
scheduler: {name: asha, grace_epochs: 3, reduction_factor: 3}
"""


@pytest.fixture
def space_of(tmp_path):
    """From the text of a file to its space."""

    def read(text: str) -> Space:
        path = tmp_path / "made.yaml"
        path.write_text(text)
        return read_space(path)

    return read


def searching(*axes: str) -> str:
    """A space of these axes; the first stands on line 3."""
    return "role: student\nspace:\n" + "".join(f"  {axis}\n" for axis in axes)


def draws(space: Space, n: int = 60) -> list[dict]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.draw(study.ask()) for _ in range(n)]


def test_the_example_of_the_design_is_read(space_of):
    space = space_of(EXAMPLE)
    assert (space.name, space.role, space.base) == ("made", "student", {"train.epochs": 30})
    assert (space.budget.trials, space.budget.minutes) == (64, 60)
    assert space.constraints == (Constraint("parameters", at_most=250_000),)
    assert space.scheduler == SchedulerPlan("asha", grace_epochs=3, reduction_factor=3)
    assert len(space.axes) == 7


def test_a_file_that_says_only_its_role_has_defaults(space_of):
    space = space_of("role: teacher\n")
    assert (space.axes, space.constraints, space.sampler.name) == ((), (), "tpe")


def test_every_draw_is_a_valid_configuration(space_of):
    space = space_of(EXAMPLE)
    for params in draws(space):
        settings = space.settings(params)
        assert settings["train.epochs"] == 30
        assert 1.0 <= settings["data.max_seconds"] <= 5.0 and settings["data.max_seconds"] % 0.5 == 0
        assert 1e-4 <= settings["optimizer.lr"] <= 1e-2


def test_an_axis_is_drawn_only_under_its_parents_values(space_of):
    for params in draws(space_of(EXAMPLE)):
        assert ("model.hidden_size" in params) == (params["model.name"] != "lite_cnn")


def test_a_parent_that_is_written_below_its_child_is_drawn_first(space_of):
    space = space_of(
        searching(
            "model.hidden_size: {choice: [32, 64], when: {model.name: bilstm}}",
            "model.name: {choice: [bilstm, lite_cnn]}",
        )
    )
    assert [axis.name for axis in space.axes] == ["model.name", "model.hidden_size"]


def test_a_condition_may_rest_on_a_fixed_setting(space_of):
    text = "base: {model.name: lite_cnn}\n" + searching("model.layers: {choice: [1, 2], when: {model.name: bilstm}}")
    assert draws(space_of(text), 3) == [{}, {}, {}]
    assert all("model.layers" in params for params in draws(space_of(text.replace("lite_cnn", "bilstm"))))


def test_an_axis_whose_parent_was_not_drawn_is_not_drawn(space_of):
    space = space_of(
        searching(
            "model.name: {choice: [lite_cnn]}",
            "model.hidden_size: {choice: [32], when: {model.name: bilstm}}",
            "model.layers: {choice: [1, 2], when: {model.hidden_size: 32}}",
        )
    )
    assert draws(space, 2) == [{"model.name": "lite_cnn"}] * 2


@pytest.mark.parametrize("smallest", [1, 2, 3])
def test_a_subset_has_at_least_min_members(smallest, space_of):
    space = space_of(searching(f"features.sets: {{subset: [log_mel, mfcc, zcr], min: {smallest}}}"))
    sizes = {len(params["features.sets"]) for params in draws(space)}
    assert sizes == set(range(smallest, 4))


def test_a_subset_is_read_back_from_what_was_stored(space_of):
    space = space_of(EXAMPLE)
    stored = {"model.name": "bilstm", "model.hidden_size": 64, "features.sets": "log_mel+zcr"}
    assert space.read(stored) == stored | {"features.sets": ["log_mel", "zcr"]}


def test_a_stored_trial_reads_back_as_what_was_drawn(space_of):
    space = space_of(EXAMPLE + "\n")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(20):
        trial = study.ask()
        drawn = space.draw(trial)
        assert space.read(study.trials[trial.number].params) == drawn


def test_a_fixed_axis_is_not_stored_and_comes_back(space_of):
    space = space_of(
        searching("model.name: {choice: [bilstm]}", "model.layers: {fixed: 2, when: {model.name: bilstm}}")
    )
    assert draws(space, 1) == [{"model.name": "bilstm", "model.layers": 2}]
    assert space.read({"model.name": "bilstm"}) == {"model.name": "bilstm", "model.layers": 2}


def test_whole_numbers_are_drawn_whole(space_of):
    space = space_of(searching("features.n_mfcc: {int: [10, 40], step: 10}"))
    assert {params["features.n_mfcc"] for params in draws(space)} == {10, 20, 30, 40}


def test_what_the_user_fixes_is_searched_no_more(space_of):
    space = space_of(EXAMPLE).with_overrides({"model.name": "bilstm", "optimizer.lr": 0.01}, trials=5, minutes=1)
    assert (space.budget.trials, space.budget.minutes) == (5, 1)
    for params in draws(space, 20):
        assert "model.name" not in params and "optimizer.lr" not in params
        assert "model.hidden_size" in params  # its parent is fixed now
        assert space.settings(params)["model.name"] == "bilstm"


def test_without_an_override_the_space_stays(space_of):
    space = space_of(EXAMPLE)
    assert space.with_overrides({}) == space


def test_a_folder_of_spaces_is_listed_by_name(tmp_path):
    for name in ("student.yaml", "teacher.yaml", "notes.txt"):
        (tmp_path / name).write_text("role: student\n")
    assert list(space_files(tmp_path)) == ["student", "teacher"]


REFUSED = {
    "an unknown section": ("role: student\nspaces: {}\n", 2, "unknown key 'spaces'; choose from: role, base, space"),
    "no role": ("space: {}\n", None, "role must be teacher or student; got None"),
    "an unknown role": ("role: pupil\n", 1, "teacher or student"),
    "an unknown setting": (searching("model.nam: {choice: [bilstm]}"), 3, "unknown key 'model.nam'.*model.name"),
    "an unknown setting in base": (
        "role: student\nbase:\n  epochs: 3\n",
        3,
        "unknown key 'epochs' in base.*train.epochs",
    ),
    "a wrong value in base": ("role: student\nbase:\n  train.epochs: 0\n", 3, "train.epochs must be at least 1"),
    "an unknown model": (searching("model.name: {choice: [bilstm, resnet]}"), 3, "'resnet'; choose from: cnn_bilstm"),
    "an unknown model in base": ("role: student\nbase: {model.name: vgg}\n", 2, "'vgg'; choose from: cnn_bilstm"),
    "an unknown domain": (searching("optimizer.lr: {normal: [0, 1]}"), 3, "choice, subset, uniform, loguniform, int"),
    "a bare value": (searching("optimizer.lr: 0.1"), 3, "needs one domain"),
    "two domains": (searching("optimizer.lr: {uniform: [0.1, 0.2], choice: [0.1]}"), 3, "needs one domain"),
    "an unknown key in an axis": (
        searching("data.max_seconds: {uniform: [1, 5], stepp: 1}"),
        3,
        "unknown key 'stepp' in data.max_seconds.*step",
    ),
    "an empty range": (searching("distill.alpha: {uniform: [0.5, 0.5]}"), 3, "low < high"),
    "a range turned round": (searching("distill.alpha: {uniform: [0.9, 0.1]}"), 3, "low < high"),
    "a range of three": (searching("distill.alpha: {uniform: [0.1, 0.2, 0.3]}"), 3, r"\[low, high\]"),
    "an empty choice": (searching("model.name: {choice: []}"), 3, "not empty"),
    "a range beyond the valid": (searching("distill.alpha: {uniform: [0, 1.5]}"), 3, "at most 1"),
    "a logarithm of zero": (searching("optimizer.weight_decay: {loguniform: [0, 1]}"), 3, "start above 0"),
    "a broken whole number": (searching("data.max_seconds: {int: [1.5, 3]}"), 3, "whole numbers"),
    "a whole setting from a continuous range": (
        searching("model.hidden_size: {loguniform: [8, 128]}"),
        3,
        "whole number; search it with int or choice",
    ),
    "a step wider than the range": (searching("data.max_seconds: {uniform: [1, 2], step: 3}"), 3, "wider"),
    "a step of nothing": (searching("data.max_seconds: {uniform: [1, 2], step: 0}"), 3, "above 0"),
    "a step under choice": (searching("model.layers: {choice: [1, 2], step: 1}"), 3, "step of model.layers"),
    "a subset larger than the set": (searching("features.sets: {subset: [log_mel, zcr], min: 3}"), 3, "min 3"),
    "an empty subset": (searching("features.sets: {subset: [log_mel, zcr], min: 0}"), 3, "min 0"),
    "a min that is no number": (searching("features.sets: {subset: [log_mel, zcr], min: few}"), 3, "min 'few'"),
    "a subset of what is no set": (searching("model.name: {subset: [bilstm, lite_cnn]}"), 3, "draws nothing valid"),
    "an unknown member": (searching("features.sets: {subset: [log_mel, timbre]}"), 3, "'timbre'; choose from: log_mel"),
    "a condition on nothing": (
        searching("model.layers: {choice: [1, 2], when: {model.name: bilstm}}"),
        3,
        "'model.name' is neither searched nor fixed",
    ),
    "a condition that is no mapping": (searching("model.layers: {choice: [1], when: bilstm}"), 3, "must be a mapping"),
    "conditions in a circle": (
        searching(
            "model.layers: {choice: [1], when: {model.hidden_size: 32}}",
            "model.hidden_size: {choice: [32], when: {model.layers: 1}}",
        ),
        None,
        "depends on itself",
    ),
    "a metric nobody reports": (
        "role: student\nobjective:\n  - {metric: test_uar}\n",
        2,
        "'test_uar'; choose from: dev_uar",
    ),
    "a score to be minimised": ("role: student\nobjective: [{metric: dev_uar, direction: minimize}]\n", 2, "maximize"),
    "an objective without a list": ("role: student\nobjective: dev_uar\n", 2, "dev_uar"),
    "an unknown constraint": ("role: student\nconstraints: [{metric: seconds, at_most: 3}]\n", 2, "parameters"),
    "a constraint without a list": ("role: student\nconstraints: {metric: parameters, at_most: 3}\n", 2, "parameters"),
    "an unknown sampler": ("role: student\nsampler: {name: grid}\n", 2, "'grid'; choose from: tpe, random"),
    "an unknown scheduler": ("role: student\nscheduler: {name: hyperband}\n", 2, "choose from: asha, none"),
    "no trials": ("role: student\nbudget: {trials: 0}\n", 2, "budget.trials must be a number of at least 1"),
    "an unknown budget": ("role: student\nbudget:\n  hours: 3\n", 3, "unknown key 'hours' in budget.*trials, minutes"),
    "a list": ("- role\n", None, "is a mapping with role"),
    "an empty file": ("", None, "is a mapping with role"),
    "what is not YAML": ("role: [student\n", None, "not YAML"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_searched_is_refused_with_its_line(what, space_of):
    text, line, message = REFUSED[what]
    with pytest.raises(SpaceError, match=message) as refusal:
        space_of(text)
    assert "\n" not in str(refusal.value)
    if line is not None:
        assert f"made.yaml:{line}:" in str(refusal.value)


def test_a_missing_file_is_refused():
    with pytest.raises(SpaceError, match="No such file"):
        read_space(Path("nowhere.yaml"))


def test_a_refusal_is_the_users_to_mend():
    assert issubclass(SpaceError, UserError) and SpaceError.exit_code == 2
