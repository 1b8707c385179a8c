"""A search space is checked when it is read; every error names the line and the valid choices."""

from pathlib import Path

import optuna
import pytest

from ser_platform.errors import SearchSpaceError, UserError
from ser_platform.tuning.search_space.space import (
    Budget,
    Confirmation,
    Constraint,
    Objective,
    Resources,
    SamplerPlan,
    SchedulerPlan,
    Space,
)
from ser_platform.tuning.search_space.yaml_file import find_space_files, read_question, read_space

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
    """A function that returns the space in the text of a file."""

    def read(text: str) -> Space:
        path = tmp_path / "made.yaml"
        path.write_text(text)
        return read_space(path)

    return read


def searching(*axes: str) -> str:
    """The text of a space of these axes; the first is on line 3."""
    return "role: student\nspace:\n" + "".join(f"  {axis}\n" for axis in axes)


def draws(space: Space, n: int = 60) -> list[dict]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.draw(study.ask()) for _ in range(n)]


def test_a_complete_example_is_read(space_of):
    space = space_of(EXAMPLE)
    assert (space.name, space.role, space.base) == ("made", "student", {"train.epochs": 30})
    assert (space.budget.trials, space.budget.minutes) == (64, 60)
    assert space.constraints == (Constraint("parameters", at_most=250_000),)
    assert space.scheduler == SchedulerPlan("asha", grace_epochs=3, reduction_factor=3)
    assert len(space.axes) == 7


def test_a_file_with_only_a_role_has_defaults(space_of):
    space = space_of("role: teacher\n")
    assert (space.axes, space.constraints, space.sampler.name) == ((), (), "tpe")


def test_every_draw_is_a_valid_configuration(space_of):
    space = space_of(EXAMPLE)
    for params in draws(space):
        settings = space.resolve_settings(params)
        assert settings.train.epochs == 30
        assert 1.0 <= settings.data.max_seconds <= 5.0 and settings.data.max_seconds % 0.5 == 0
        assert 1e-4 <= settings.optimizer.lr <= 1e-2


def test_an_axis_is_drawn_only_under_its_parents_values(space_of):
    for params in draws(space_of(EXAMPLE)):
        assert ("model.hidden_size" in params) == (params["model.name"] != "lite_cnn")


def test_a_parent_below_its_child_in_the_file_is_drawn_first(space_of):
    space = space_of(
        searching(
            "model.hidden_size: {choice: [32, 64], when: {model.name: bilstm}}",
            "model.name: {choice: [bilstm, lite_cnn]}",
        )
    )
    assert [axis.name for axis in space.axes] == ["model.name", "model.hidden_size"]


def test_a_condition_may_depend_on_a_fixed_setting(space_of):
    text = "base: {model.name: lite_cnn}\n" + searching("model.layers: {choice: [1, 2], when: {model.name: bilstm}}")
    space = space_of(text.replace("lite_cnn", "bilstm"))
    assert all("model.layers" in params for params in draws(space))
    assert draws(space.with_overrides({"model.name": "lite_cnn"}), 3) == [{}, {}, {}]


def test_an_axis_whose_parent_was_not_drawn_is_not_drawn(space_of):
    space = space_of(
        searching(
            "model.name: {choice: [lite_cnn, bilstm]}",
            "model.hidden_size: {choice: [32], when: {model.name: bilstm}}",
            "model.layers: {choice: [1, 2], when: {model.hidden_size: 32}}",
        )
    )
    assert all(len(params) == (1 if params["model.name"] == "lite_cnn" else 3) for params in draws(space))


def test_an_axis_with_several_parents_needs_each_of_them(space_of):
    space = space_of(
        searching(
            "model.name: {choice: [bilstm, gru, lite_cnn]}",
            "features.sets: {subset: [log_mel, mfcc], when: {model.name: [bilstm, gru]}}",
            "features.n_mfcc: {choice: [13, 20], when: {features.sets: mfcc, model.name: gru}}",
        )
    )
    for params in draws(space):
        is_met = params["model.name"] == "gru" and "mfcc" in params["features.sets"]
        assert ("features.n_mfcc" in params) == is_met


def test_a_setting_that_the_model_does_not_use_is_not_drawn(space_of):
    text = """\
role: student
space:
  distill.temperature: {loguniform: [1, 8]}
  model.dropout:       {uniform: [0.1, 0.5]}
  model.ridge:         {loguniform: [0.1, 1]}
  distill.alpha:       {choice: [0.0, 0.5]}
  model.name:          {choice: [ridge, bilstm]}
"""
    drawn = draws(space_of(text), 40)
    for params in drawn:
        is_ridge, is_distilled = params["model.name"] == "ridge", params["distill.alpha"] > 0
        assert ("model.ridge" in params) == is_ridge and ("model.dropout" in params) == (not is_ridge)
        assert ("distill.temperature" in params) == (is_distilled and not is_ridge)
    assert any("distill.temperature" in params for params in drawn)


def test_a_whole_number_is_drawn_uniformly_in_its_logarithm(space_of):
    space = space_of(searching("model.hidden_size: {loguniform: [8, 512]}"))
    sizes = [params["model.hidden_size"] for params in draws(space, 400)]
    assert all(isinstance(size, int) for size in sizes)
    assert 0.4 < sum(size < 64 for size in sizes) / 400 < 0.6


def test_points_have_their_values_in_the_order_of_the_file(space_of):
    point = {"model.name": "bilstm", "model.hidden_size": 64, "features.sets": ["zcr", "log_mel"]}
    space = space_of(EXAMPLE + f"points:\n  - {point}\n  - {{data.max_seconds: 1.5}}\n")
    assert space.points == (point | {"features.sets": ("zcr", "log_mel")}, {"data.max_seconds": 1.5})
    assert space.encode(point, partial=True) == point | {"features.sets": "log_mel+zcr"}


def test_settings_that_the_user_fixes_are_removed_from_points(space_of):
    space = space_of(EXAMPLE + "points:\n  - {model.name: bilstm, model.hidden_size: 64}\n")
    assert space.with_overrides({"model.name": "gru"}).points == ({"model.hidden_size": 64},)


def test_the_configurations_of_a_finite_space_are_those_it_draws(space_of):
    space = space_of(
        searching(
            "model.name: {choice: [bilstm, lite_cnn]}",
            "model.hidden_size: {int: [16, 48], step: 16, when: {model.name: bilstm}}",
            "distill.alpha: {uniform: [0, 0.6], step: 0.3}",
        )
    )
    listed = list(space.iterate_configurations())
    assert len(listed) == space.count_configurations(100) == 3 * 3 + 3
    assert {tuple(sorted(each.items())) for each in listed} == {
        tuple(sorted(params.items())) for params in draws(space, 400)
    }


def test_a_metric_of_a_trial_is_read_by_its_former_name(space_of):
    space = space_of("role: student\nconstraints: [{metric: latency_ms, at_most: 5}]\n")
    assert space.constraints == (Constraint("forward_ms", at_most=5),)


def test_every_section_is_read(space_of):
    space = space_of(
        "role: student\n"
        "objective: [{metric: dev_uar}, {metric: forward_ms, direction: minimize}]\n"
        "constraints: [{metric: size_kb, at_most: 400}, {metric: dev_war, at_least: 0.5}]\n"
        "budget: {trials: 5, minutes: 0.5, epochs: 90}\n"
        "confirm: {trials: 2, seeds: 1}\n"
        "sampler: {name: nsga2, seed: 7}\n"
        "scheduler: {name: none}\n"
        "resources: {cpus: 2, gpus: 0.5, workers: 3}\n"
    )
    assert space.objectives == (Objective("dev_uar", "maximize"), Objective("forward_ms", "minimize"))
    assert space.constraints == (Constraint("size_kb", at_most=400), Constraint("dev_war", at_least=0.5))
    assert space.budget == Budget(5, 0.5, 90)
    assert space.confirmation == Confirmation(2, 1)
    assert (space.sampler, space.scheduler.name) == (SamplerPlan("nsga2", 7), "none")
    assert space.resources == Resources(2, 0.5, 3)


def test_the_default_grace_is_at_most_the_number_of_epochs(space_of):
    assert space_of("role: student\nbase: {train.epochs: 2}\n").scheduler.grace_epochs == 2


def test_the_question_of_a_space_is_its_first_line_if_that_is_a_comment(tmp_path):
    path = tmp_path / "made.yaml"
    path.write_text("# ser tune made: does it matter?\nrole: student\n")
    assert read_question(path) == "does it matter?"
    path.write_text("role: student\n# no question\n")
    assert read_question(path) == ""


@pytest.mark.parametrize("smallest", [1, 2, 3])
def test_a_subset_has_at_least_min_members(smallest, space_of):
    space = space_of(searching(f"features.sets: {{subset: [log_mel, mfcc, zcr], min: {smallest}}}"))
    sizes = {len(params["features.sets"]) for params in draws(space)}
    assert sizes == set(range(smallest, 4))


def test_a_subset_is_read_back_from_what_was_stored(space_of):
    space = space_of(EXAMPLE)
    stored = {"model.name": "bilstm", "model.hidden_size": 64, "features.sets": "log_mel+zcr"}
    assert space.decode(stored) == stored | {"features.sets": ("log_mel", "zcr")}


def test_a_stored_trial_reads_back_as_what_was_drawn(space_of):
    space = space_of(EXAMPLE + "\n")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(20):
        trial = study.ask()
        drawn = space.draw(trial)
        assert space.decode(study.trials[trial.number].params) == drawn


def test_a_fixed_axis_is_not_stored_and_is_decoded(space_of):
    space = space_of(
        searching("model.name: {choice: [bilstm]}", "model.layers: {fixed: 2, when: {model.name: bilstm}}")
    )
    assert draws(space, 1) == [{"model.name": "bilstm", "model.layers": 2}]
    assert space.decode({"model.name": "bilstm"}) == {"model.name": "bilstm", "model.layers": 2}


def test_whole_numbers_are_drawn_whole(space_of):
    space = space_of(searching("train.epochs: {int: [10, 40], step: 10}"))
    assert {params["train.epochs"] for params in draws(space)} == {10, 20, 30, 40}


def test_settings_that_the_user_fixes_are_not_searched(space_of):
    space = space_of(EXAMPLE).with_overrides({"model.name": "bilstm", "optimizer.lr": 0.01}, trials=5, minutes=1)
    assert (space.budget.trials, space.budget.minutes) == (5, 1)
    for params in draws(space, 20):
        assert "model.name" not in params and "optimizer.lr" not in params
        assert "model.hidden_size" in params  # its parent is fixed now
        assert space.resolve_settings(params).model.name == "bilstm"


def test_without_overrides_the_space_is_unchanged(space_of):
    space = space_of(EXAMPLE)
    assert space.with_overrides({}) == space


def test_a_folder_of_spaces_is_listed_by_name(tmp_path):
    for name in ("student.yaml", "teacher.yaml", "notes.txt"):
        (tmp_path / name).write_text("role: student\n")
    assert list(find_space_files(tmp_path)) == ["student", "teacher"]


REFUSED = {
    "an unknown section": (
        "role: student\nspaces: {}\n",
        2,
        "unknown key 'spaces' .did you mean space..",
    ),
    "no role": ("space: {}\n", None, "role is missing; choose from: teacher, student"),
    "an unknown role": ("role: pupil\n", 1, "unknown role 'pupil'; choose from: teacher, student"),
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
    "a reversed range": (searching("distill.alpha: {uniform: [0.9, 0.1]}"), 3, "low < high"),
    "a range of three": (searching("distill.alpha: {uniform: [0.1, 0.2, 0.3]}"), 3, r"\[low, high\]"),
    "an empty choice": (searching("model.name: {choice: []}"), 3, r"a list of 1 to 1,000 values; got \[\]"),
    "a range beyond the valid": (searching("distill.alpha: {uniform: [0, 1.5]}"), 3, "at most 1"),
    "a logarithm of zero": (
        searching("optimizer.weight_decay: {loguniform: [0, 1]}"),
        3,
        "must be a number above 0; got 0",
    ),
    "a fraction under int": (searching("data.max_seconds: {int: [1.5, 3]}"), 3, "must be a whole number; got 1.5"),
    "a whole setting from a continuous range": (
        searching("model.hidden_size: {uniform: [8, 128]}"),
        3,
        "is a whole number; search it with choice or loguniform or int or fixed, not uniform",
    ),
    "a step wider than the range": (searching("data.max_seconds: {uniform: [1, 2], step: 3}"), 3, "wider"),
    "a step of 0": (searching("data.max_seconds: {uniform: [1, 2], step: 0}"), 3, "above 0"),
    "a step under choice": (
        searching("model.layers: {choice: [1, 2], step: 1}"),
        3,
        "unknown key 'step' in model.layers; choose from: choice, when",
    ),
    "a subset larger than the set": (
        searching("features.sets: {subset: [log_mel, zcr], min: 3}"),
        3,
        "min 3 of features.sets is above the 2 names",
    ),
    "an empty subset": (
        searching("features.sets: {subset: [log_mel, zcr], min: 0}"),
        3,
        "min of features.sets must be a whole number of at least 1; got 0",
    ),
    "a min that is no number": (
        searching("features.sets: {subset: [log_mel, zcr], min: few}"),
        3,
        "min of features.sets .* got 'few'",
    ),
    "a subset of a setting with one value": (
        searching("model.name: {subset: [bilstm, lite_cnn]}"),
        3,
        "is a word; search it with choice or fixed, not subset",
    ),
    "an unknown member": (searching("features.sets: {subset: [log_mel, timbre]}"), 3, "'timbre'; choose from: log_mel"),
    "a condition on a setting that is neither searched nor fixed": (
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
    "a metric that no trial reports": (
        "role: student\nobjective:\n  - {metric: test_uar}\n",
        3,
        "'test_uar'.*; choose from: dev_uar",
    ),
    "a score to be minimised": ("role: student\nobjective: [{metric: dev_uar, direction: minimize}]\n", 2, "maximize"),
    "an objective without a list": ("role: student\nobjective: dev_uar\n", 2, "dev_uar"),
    "an unknown constraint": ("role: student\nconstraints: [{metric: seconds, at_most: 3}]\n", 2, "parameters"),
    "a constraint without a list": ("role: student\nconstraints: {metric: parameters, at_most: 3}\n", 2, "parameters"),
    "an unknown sampler": ("role: student\nsampler: {name: cmaes}\n", 2, "'cmaes'; choose from: tpe, random"),
    "an unknown scheduler": ("role: student\nscheduler: {name: hyperband}\n", 2, "choose from: asha, median, none"),
    "no trials": (
        "role: student\nbudget: {trials: 0}\n",
        2,
        "budget.trials must be a whole number of at least 1; got 0",
    ),
    "an unknown budget": ("role: student\nbudget:\n  hours: 3\n", 3, "unknown key 'hours' in budget.*trials, minutes"),
    "a condition that is never met": (
        searching("model.name: {choice: [bilstm, gru]}", "model.layers: {choice: [1], when: {model.name: lite_cnn}}"),
        4,
        r"model.layers: model.name is never 'lite_cnn'; it is choice \[bilstm, gru\]",
    ),
    "one value of a condition that is never met": (
        searching("model.name: {choice: [bilstm]}", "model.layers: {choice: [1], when: {model.name: [bilstm, gru]}}"),
        4,
        "model.name is never 'gru'",
    ),
    "a condition between the steps": (
        searching("augment.masks: {int: [0, 4], step: 2}", "train.max_norm: {choice: [1], when: {augment.masks: 3}}"),
        4,
        "augment.masks is never 3",
    ),
    "a condition on a member that no subset has": (
        searching(
            "features.sets: {subset: [log_mel, zcr]}", "features.n_mfcc: {choice: [13], when: {features.sets: mfcc}}"
        ),
        4,
        "features.sets is never 'mfcc'",
    ),
    "a condition that a fixed setting never meets": (
        "base: {model.name: lite_cnn}\n" + searching("model.layers: {choice: [1], when: {model.name: bilstm}}"),
        4,
        "model.name is never 'bilstm'; it is fixed: 'lite_cnn'",
    ),
    "a condition on an invalid value": (
        searching("train.batch_size: {int: [8, 16]}", "train.max_norm: {choice: [1], when: {train.batch_size: few}}"),
        4,
        "train.batch_size must be a whole number; got 'few'",
    ),
    "conditions that exclude each other": (
        searching(
            "model.name: {choice: [bilstm, gru]}",
            "model.layers: {choice: [1, 2], when: {model.name: bilstm}}",
            "model.subsample: {choice: [2], when: {model.layers: 2, model.name: gru}}",
        ),
        5,
        "model.subsample never exists: it and its parents require different values of model.name",
    ),
    "a condition without a value": (
        searching("model.name: {choice: [gru]}", "model.layers: {choice: [1], when: {model.name: []}}"),
        4,
        "must be a value, or a list of 1 to 1,000",
    ),
    "a value twice in a choice": (searching("model.layers: {choice: [1, 2, 1]}"), 3, "has 1 twice"),
    "a step that does not divide the range": (
        searching("distill.alpha: {uniform: [0, 1], step: 0.3}"),
        3,
        "does not divide",
    ),
    "a min under choice": (
        searching("model.layers: {choice: [1], min: 1}"),
        3,
        "'min' in model.layers; choose from: choice",
    ),
    "a point that is no mapping": (searching("model.layers: {int: [1, 3]}") + "points:\n  - 3\n", 5, "each of points"),
    "a point of an unknown axis": (
        searching("model.layers: {int: [1, 3]}") + "points:\n  - {model.layers: 2}\n  - {model.name: gru}\n",
        6,
        "unknown key 'model.name' in points .did you mean model.layers..",
    ),
    "a point outside a domain": (
        searching("model.layers: {int: [1, 3]}") + "points:\n  - {model.layers: 2}\n  - model.layers: 4\n",
        6,
        r"model.layers 4 is outside int \[1, 3\]",
    ),
    "a point between the steps": (
        searching("distill.alpha: {uniform: [0, 0.9], step: 0.3}") + "points:\n  - {distill.alpha: 0.5}\n",
        5,
        r"distill.alpha 0.5 is outside uniform \[0.0, 0.9\] in steps of 0.3",
    ),
    "a point with too few members": (
        searching("features.sets: {subset: [log_mel, zcr], min: 2}") + "points:\n  - {features.sets: [zcr]}\n",
        5,
        "outside subset",
    ),
    "a point that contradicts a condition": (
        searching("model.name: {choice: [gru, lite_cnn]}", "model.layers: {choice: [1, 2], when: {model.name: gru}}")
        + "points:\n  - {model.name: lite_cnn, model.layers: 2}\n",
        6,
        "model.layers exists only under model.name: gru",
    ),
    "a point without the parent of a condition": (
        searching("model.name: {choice: [gru, lite_cnn]}", "model.layers: {choice: [1, 2], when: {model.name: gru}}")
        + "points:\n  - {model.layers: 2}\n",
        6,
        "set model.name too",
    ),
    "a point twice": (
        searching("model.layers: {int: [1, 3]}") + "points:\n  - {model.layers: 2}\n  - {model.layers: 2}\n",
        6,
        "listed twice",
    ),
    "the second objective in the wrong direction": (
        "role: student\nobjective:\n  - {metric: dev_uar}\n  - metric: parameters\n    direction: maximize\n",
        5,
        "direction must be minimize; got 'maximize'",
    ),
    "an objective twice": ("role: student\nobjective:\n  - {metric: dev_uar}\n  - {metric: dev_uar}\n", 4, "twice"),
    "an unknown key of an objective": ("role: student\nobjective:\n  - {metrics: a}\n", 3, "'metrics' in objective"),
    "a constraint without a bound": (
        "role: student\nconstraints:\n  - {metric: parameters, at_most: 9}\n  - {metric: macs}\n",
        4,
        "metric: macs, at_most: N",
    ),
    "bounds that exclude each other": (
        "role: student\nconstraints: [{metric: macs, at_most: 1, at_least: 2}]\n",
        2,
        "both",
    ),
    "a bound that is no number": (
        "role: student\nconstraints: [{metric: macs, at_most: few}]\n",
        2,
        "number; got 'few'",
    ),
    "a fraction of a trial": (
        "role: student\nbudget: {trials: 2.5}\n",
        2,
        "budget.trials must be a whole number of at least 1; got 2.5",
    ),
    "a budget of no epochs": (
        "role: student\nbudget: {epochs: 0}\n",
        2,
        "budget.epochs must be a whole number of at least 1",
    ),
    "a seed below zero": (
        "role: student\nsampler: {seed: -1}\n",
        2,
        "sampler.seed must be a whole number of at least 0",
    ),
    "a seed beyond 31 bits": ("role: student\nsampler: {seed: 2147483648}\n", 2, "at most 2147483647"),
    "brackets without asha": (
        "role: student\nscheduler: {name: median, brackets: 2}\n",
        2,
        "scheduler median has no brackets",
    ),
    "a grace longer than the training": (
        "role: student\nbase: {train.epochs: 5}\nscheduler:\n  grace_epochs: 6\n",
        4,
        "grace_epochs 6 is above train.epochs 5",
    ),
    "early stopping for a Pareto set": (
        "role: student\nobjective: [{metric: dev_uar}, {metric: macs}]\nscheduler: {name: asha}\n",
        3,
        "scheduler asha with 2 objectives",
    ),
    "the default early stopping for a Pareto set": (
        "role: student\nobjective: [{metric: dev_uar}, {metric: macs}]\n",
        2,
        "scheduler asha with 2 objectives",
    ),
    "a grid over an infinite space": (
        searching("model.layers: {int: [1, 3]}", "optimizer.lr: {loguniform: [0.001, 0.01]}")
        + "sampler: {name: grid}\n",
        4,
        "optimizer.lr is loguniform",
    ),
    "a grid of a uniform without steps": (
        searching("distill.alpha: {uniform: [0, 1]}") + "sampler: {name: grid}\n",
        3,
        "step",
    ),
    "a grid too large to list": (
        searching("model.hidden_size: {int: [1, 1000]}", "model.width: {int: [1, 200]}") + "sampler: {name: grid}\n",
        5,
        "more than 100,000 configurations",
    ),
    "a gaussian process over conditions": (
        searching("model.name: {choice: [gru, lite_cnn]}", "model.layers: {choice: [1, 2], when: {model.name: gru}}")
        + "sampler: {name: gp}\n",
        5,
        r"gp cannot model axes that only some configurations have \(model.layers\)",
    ),
    "half a core": (
        "role: student\nresources: {cpus: 0.5}\n",
        2,
        "resources.cpus must be a whole number of at least 1",
    ),
    "one GPU and a half": ("role: student\nresources: {gpus: 1.5}\n", 2, "at most 1 or a whole number; got 1.5"),
    "no workers": (
        "role: student\nresources: {workers: 0}\n",
        2,
        "resources.workers must be a whole number of at least 1",
    ),
    "a list": ("- role\n", None, "is a mapping of role"),
    "an empty file": ("", None, "is a mapping of role"),
    "what is not YAML": ("role: [student\n", None, "not YAML"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_invalid_file_is_refused_with_the_line(what, space_of):
    text, line, message = REFUSED[what]
    with pytest.raises(SearchSpaceError, match=message) as refusal:
        space_of(text)
    assert "\n" not in str(refusal.value)
    if line is not None:
        assert f"made.yaml:{line}:" in str(refusal.value)


def test_a_missing_file_is_refused():
    with pytest.raises(SearchSpaceError, match="No such file"):
        read_space(Path("nowhere.yaml"))


def test_the_error_is_a_user_error_with_exit_code_2():
    assert issubclass(SearchSpaceError, UserError) and SearchSpaceError.exit_code == 2
