"""Every shipped search space can be read, states its question, and draws configurations that can be trained."""

import re
from collections import Counter
from pathlib import Path

import optuna
import pytest

from ser_platform.errors import UserError
from ser_platform.models import NEURAL
from ser_platform.training.configuration import count_prediction_parameters
from ser_platform.tuning.samplers.factory import make_sampler
from ser_platform.tuning.search_space.yaml_axes import DOMAINS
from ser_platform.tuning.search_space.yaml_file import find_space_files, parse_space, read_question, read_space

SHIPPED = find_space_files(Path(__file__).resolve().parents[3] / "search_spaces")
DRAWS = 50
PUBLISHED = {
    "seed_chunk_cnn_lstm", "seed_cnn_bilstm_vector", "seed_gru_vector", "seed_mlp_vector",
    "seed_stacked_attention_bilstm_frames", "seed_stacked_bilstm_frames", "seed_tutorial_classical",
}  # fmt: skip
NEEDS_ENCODER = "teacher_pretrained"  # its weights are not in the repository


def test_the_shipped_spaces_are_those_of_the_questions_and_the_published_systems():
    questions = {"teacher", "architecture", "duration", "features", "distillation"}
    students = {"student", "student_small", "student_linear"}
    assert questions | students | PUBLISHED | {"classical", NEEDS_ENCODER} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_its_first_line_is_its_question(name):
    assert len(read_question(SHIPPED[name])) > 15


@pytest.mark.parametrize("name", SHIPPED)
def test_its_configurations_can_be_built(name):
    space = read_space(SHIPPED[name])
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=make_sampler(space, 0))
    over = 0
    for _ in range(DRAWS):
        trial = study.ask()
        params = space.draw(trial)
        assert space.decode(study.get_trials(deepcopy=False)[-1].params) == params
        assert space.encode(params) == trial.params
        trial.set_user_attr("parameters", 1)
        study.tell(trial, 0.5)
        if name != NEEDS_ENCODER:
            size = count_prediction_parameters(space.resolve_settings(params), 8)
            over += any(limit.compute_excess(size) > 0 for limit in space.constraints if limit.metric == "parameters")
    assert over < DRAWS / 2


def test_every_architecture_has_configurations_within_the_constraint_on_parameters():
    space = read_space(SHIPPED["architecture"])
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study, fitting = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)), Counter()
    for name in NEURAL:
        for _ in range(8):
            study.enqueue_trial({"model.name": name})
            settings = space.resolve_settings(space.draw(study.ask()))
            fitting[name] += count_prediction_parameters(settings, 8) <= space.constraints[0].at_most
    assert set(NEURAL) == {name for name, count in fitting.items() if count}, fitting


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_grid_of_a_published_system_fits_its_budget(name):
    space = read_space(SHIPPED[name])
    assert space.sampler.name == "grid"
    assert space.count_configurations(1000) <= space.budget.trials


def test_settings_that_contradict_each_other_are_refused():
    space = read_space(SHIPPED["duration"])
    with pytest.raises(UserError):
        count_prediction_parameters(space.resolve_settings({"data.min_seconds": 9.0, "data.max_seconds": 1.0}), 8)


def test_the_example_of_the_readme_can_be_read():
    folder = Path(__file__).resolve().parents[3] / "search_spaces"
    example = re.search(r"```yaml\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert example is not None
    space = parse_space(folder / "mine.yaml", example[1])
    assert {axis.domain for axis in space.axes} == set(DOMAINS)
