"""Samplers propose valid configurations, end with a finite space, and read a bounded history."""

import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState, create_trial

from ser_platform.tuning.samplers.bounded_history import BoundedHistory, BoundedTpeSampler
from ser_platform.tuning.samplers.factory import is_exhausted, list_first_points, make_sampler
from ser_platform.tuning.samplers.grid import ConditionalGridSampler
from ser_platform.tuning.search_space.space import Axis, Space
from ser_platform.tuning.search_space.yaml_file import read_space

FINITE = """\
role: student
space:
  model.name:        {choice: [bilstm, gru, lite_cnn]}
  model.hidden_size: {int: [16, 48], step: 16, when: {model.name: [bilstm, gru]}}
  features.sets:     {subset: [log_mel, zcr], when: {model.name: gru}}
  distill.alpha:     {uniform: [0, 0.6], step: 0.3}
  data.pad:          {fixed: repeat}
scheduler: {name: none}
"""
CONFIGURATIONS = (3 + 3 * 3 + 1) * 3
OPEN = FINITE + "points:\n  - {model.name: gru, features.sets: [zcr]}\n"


@pytest.fixture
def space_of(tmp_path):
    def read(text: str, sampler: str, seed: int = 0) -> Space:
        path = tmp_path / "made.yaml"
        path.write_text(text + f"sampler: {{name: {sampler}, seed: {seed}}}\n")
        return read_space(path)

    return read


def study_of(space: Space, done: int = 0) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(direction="maximize", sampler=make_sampler(space, done))


def add_trial(study: optuna.Study, space: Space, score: float = 0.5) -> dict:
    """Draw and score a trial as a study's recorder does; return its stored parameters."""
    trial = study.ask()
    space.draw(trial)
    trial.set_user_attr("parameters", 1)
    study.tell(trial, score)
    return trial.params


def make_trials(count: int) -> list:
    """Return ended trials of two axes, every third one pruned."""
    domains = {name: Axis(name, "uniform", (0.0, 1.0), None, {}).distribution for name in "xy"}
    return [
        create_trial(
            state=TrialState.COMPLETE if number % 3 else TrialState.PRUNED,
            value=number * 37 % 101 / 101 if number % 3 else None,
            params={"x": number * 13 % 89 / 89, "y": number * 29 % 97 / 97},
            distributions=domains,
            intermediate_values={1: number * 37 % 101 / 101},
        )
        for number in range(count)
    ]


def key(params: dict) -> tuple:
    return tuple(sorted(params.items()))


@pytest.mark.parametrize("name", ["tpe", "random", "qmc", "nsga2", "grid"])
def test_every_sampler_proposes_configurations_of_a_conditional_space(name, space_of):
    space = space_of(OPEN, name)
    study, valid = study_of(space), {key(each) for each in space.iterate_configurations()}
    assert all(key(add_trial(study, space, number / 30)) in valid for number in range(30))


def test_a_gaussian_process_proposes_configurations_of_a_plain_space(space_of):
    text = "role: student\nspace:\n  model.layers: {int: [1, 3]}\n  distill.alpha: {uniform: [0, 0.9]}\n"
    space = space_of(text, "gp")
    study = study_of(space)
    found = [add_trial(study, space, number / 14) for number in range(14)]
    assert all(params["model.layers"] in (1, 2, 3) and 0 <= params["distill.alpha"] <= 0.9 for params in found)
    assert "gp:relative_params:0" in study.trials[-1].system_attrs  # by the process, not at random


def test_a_grid_tries_every_configuration_once_and_is_exhausted(space_of):
    space = space_of(FINITE, "grid")
    study = study_of(space)
    tried = []
    while not is_exhausted(study):
        tried.append(key(add_trial(study, space)))
    assert len(tried) == len(set(tried)) == CONFIGURATIONS


def test_a_resumed_grid_continues_and_repeats_a_trial_that_never_started(space_of):
    space = space_of(FINITE, "grid")
    study = study_of(space)
    before = {key(add_trial(study, space)) for _ in range(20)}
    lost = study.ask()
    space.draw(lost)
    study.tell(lost, state=TrialState.FAIL)  # as a study's recorder does for a trial that never started
    study.sampler = make_sampler(space, n_existing=21)
    after = set()
    while not is_exhausted(study):
        after.add(key(add_trial(study, space)))
    assert key(lost.params) in after
    assert before.isdisjoint(after)
    assert len(before) + len(after) == CONFIGURATIONS


def test_a_grid_completes_an_enqueued_point_with_an_untried_configuration(space_of):
    space = space_of(OPEN, "grid")
    study = study_of(space)
    (point,) = list_first_points(space)
    study.enqueue_trial(point)
    assert add_trial(study, space).items() >= point.items()
    tried = 1
    while not is_exhausted(study):
        add_trial(study, space)
        tried += 1
    assert tried == CONFIGURATIONS


def test_the_order_of_a_grid_depends_on_its_seed(space_of):
    def first(seed: int) -> tuple:
        space = space_of(FINITE, "grid", seed)
        return key(add_trial(study_of(space), space))

    assert len({first(seed) for seed in range(6)}) > 1
    assert first(3) == first(3)


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
def test_a_resumed_study_repeats_no_draws(name, space_of):
    text = "role: student\nspace:\n  distill.alpha: {uniform: [0, 0.9]}\n  optimizer.lr: {loguniform: [0.001, 0.1]}\n"
    space = space_of(text, name, seed=2**31 - 1)
    study = study_of(space)
    drawn = [key(add_trial(study, space)) for _ in range(3)]
    for _ in range(3):
        study.sampler = make_sampler(space, n_existing=len(study.trials))
        drawn += [key(add_trial(study, space)) for _ in range(3)]
    assert len(set(drawn)) == len(drawn)


def test_a_resumed_study_draws_other_values_than_a_study_with_a_following_seed(space_of):
    text = "role: student\nspace:\n  distill.alpha: {uniform: [0, 0.9]}\n"
    resumed, fresh = space_of(text, "random", 0), space_of(text, "random", 5)
    assert add_trial(study_of(resumed, done=5), resumed) != add_trial(study_of(fresh), fresh)


def test_qmc_spreads_every_axis_evenly_also_of_a_conditional_space(space_of):
    space = space_of(
        "role: student\nspace:\n  model.name: {choice: [gru, lite_cnn]}\n"
        "  distill.alpha: {uniform: [0, 0.8]}\n  model.dropout: {uniform: [0, 0.8], when: {model.name: gru}}\n",
        "qmc",
    )
    study = study_of(space)
    drawn = [add_trial(study, space) for _ in range(64)]
    assert sum(params["model.name"] == "gru" for params in drawn) == 32
    assert [sum(low <= params["distill.alpha"] < low + 0.1 for params in drawn) for low in (0, 0.1, 0.2, 0.3)] == [
        8
    ] * 4
    assert all("model.dropout" in params for params in drawn if params["model.name"] == "gru")
    assert len({params["model.dropout"] for params in drawn if "model.dropout" in params}) == 32


def test_tpe_on_a_short_history_is_optunas(space_of):
    space = space_of(OPEN.replace("], step: 0.3", "]"), "tpe")
    studies = [
        optuna.create_study(direction="maximize", sampler=sampler(seed=3, n_startup_trials=5))
        for sampler in (BoundedTpeSampler, TPESampler)
    ]
    for number in range(25):
        ours, theirs = (add_trial(study, space, (number * 7 % 11) / 11) for study in studies)
        assert ours == theirs


def test_the_bounded_history_has_the_best_the_latest_and_the_running_trials():
    study = optuna.create_study(direction="maximize")
    running = study.ask()
    study.add_trials(make_trials(300))
    best = create_trial(state=TrialState.COMPLETE, value=2.0)
    study.add_trial(best)
    study.add_trials(make_trials(300))
    history = BoundedHistory(best=5, latest=20)
    for _ in range(2):  # the second call uses its cache
        shown = [trial.number for trial in history.select(study, study.get_trials(deepcopy=False))]
        scored = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
        top = {trial.number for trial in sorted(scored, key=lambda trial: -trial.value)[:5]}
        assert 301 in top
        assert set(shown) == top | set(range(582, 602)) | {running.number}
        assert shown == sorted(shown)


def test_a_trial_that_ends_late_can_be_among_the_best():
    study = optuna.create_study(direction="maximize")
    late = study.ask()
    study.add_trials(make_trials(50))
    history = BoundedHistory(best=3, latest=5)
    history.select(study, study.get_trials(deepcopy=False))
    study.tell(late, 9.0)
    study.add_trials(make_trials(50))
    assert history.select(study, study.get_trials(deepcopy=False))[0].number == late.number


def test_a_trial_that_violates_a_constraint_is_not_among_the_best():
    study = optuna.create_study(direction="maximize")
    for number in range(20):
        study.add_trial(
            create_trial(state=TrialState.COMPLETE, value=float(number), constraints={"parameters": number - 9.5})
        )
    shown = BoundedHistory(best=3, latest=1).select(study, study.get_trials(deepcopy=False))
    assert [trial.number for trial in shown] == [7, 8, 9, 19]


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED])
def test_tpe_reads_constraints_of_complete_and_pruned_trials(state):
    """The better half of the axis violates the constraint: TPE proposes from the other half."""
    axis = Axis("x", "uniform", (0.0, 1.0), None, {})
    shares = []
    for limited in (True, False):
        study = optuna.create_study(direction="maximize", sampler=BoundedTpeSampler(seed=0, n_startup_trials=5))
        for number in range(60):
            x = (number + 0.5) / 60
            constraints = {"parameters": x - 0.5} if limited else {}
            value = x if state == TrialState.COMPLETE else None
            domains = {"x": axis.distribution}
            study.add_trial(
                create_trial(
                    state=state, value=value, params={"x": x}, distributions=domains,
                    intermediate_values={1: x}, constraints=constraints,
                )
            )  # fmt: skip
        drawn = [axis.draw(study.ask()) for _ in range(20)]
        shares.append(sum(x > 0.55 for x in drawn) / 20)
    limited, free = shares
    assert limited <= 0.25
    assert free >= 0.75


def test_nsga2_prefers_parents_that_keep_the_constraint():
    axes = [Axis(name, "uniform", (0.0, 1.0), None, {}) for name in "xabcdefg"]  # it redraws one of them, on average
    shares = []
    for limited in (True, False):
        sampler = optuna.samplers.NSGAIISampler(seed=0, population_size=10)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for _ in range(80):
            trial = study.ask()
            x, *_ = [axis.draw(trial) for axis in axes]
            if limited:
                trial.set_constraint("parameters", x - 0.5)
            study.tell(trial, x)
        shares.append(sum(trial.params["x"] <= 0.5 for trial in study.trials[-40:]) / 40)
    assert shares[0] >= 0.8
    assert shares[1] <= 0.2


def test_the_bounded_history_is_read_from_a_journal(tmp_path):
    journal = str(tmp_path / "journal.log")
    storage = JournalStorage(JournalFileBackend(journal, JournalFileOpenLock(journal)))
    study = optuna.create_study(
        storage=storage, direction="maximize", sampler=BoundedTpeSampler(seed=0, best=5, latest=20)
    )
    study.add_trials(make_trials(200))
    trial = study.ask()
    assert set(trial.relative_params) == set(make_trials(1)[0].params)


def test_points_come_first_then_every_other_architecture(space_of):
    assert list_first_points(space_of(OPEN, "tpe")) == [
        {"model.name": "gru", "features.sets": "zcr"},
        {"model.name": "bilstm"},
        {"model.name": "lite_cnn"},
    ]


def test_a_grid_and_a_fixed_architecture_add_no_points(space_of):
    assert list_first_points(space_of(FINITE, "grid")) == []
    assert list_first_points(space_of(FINITE, "tpe").with_overrides({"model.name": "gru"})) == []


def test_points_that_an_override_makes_equal_come_once(space_of):
    text = FINITE + "points:\n  - {model.name: gru, distill.alpha: 0.3}\n  - {model.name: bilstm, distill.alpha: 0.3}\n"
    space = space_of(text, "tpe").with_overrides({"model.name": "gru"})
    assert list_first_points(space) == [{"distill.alpha": 0.3}]


def test_the_names_of_samplers_are_those_of_their_classes(space_of):
    kinds = {name: type(make_sampler(space_of(FINITE, name), 0)) for name in ("tpe", "random", "grid")}
    assert kinds == {"tpe": BoundedTpeSampler, "random": RandomSampler, "grid": ConditionalGridSampler}
