"""Fitted models are tensors, which are checked when they are loaded."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ser_platform.errors import BundleError, UserError
from ser_platform.models import CLASSICAL, build_model, count_parameters
from ser_platform.models.fitted_models import FittedModel, Neighbours, TreeScores
from ser_platform.settings import Settings, resolve
from ser_platform.training.closed_form.estimators import fit_state

N_FEATURES, N_EMOTIONS = 6, 3
STORED = [name for name, chosen in CLASSICAL.items() if issubclass(chosen.model_class, FittedModel)]
TREES = [name for name, chosen in CLASSICAL.items() if issubclass(chosen.model_class, TreeScores)]


def small(name: str) -> Settings:
    return resolve({"model.name": name, "model.c": 1.0, "model.trees": 4, "model.hidden_size": 5})


def state_of(name: str) -> dict[str, Tensor]:
    rng = np.random.default_rng(0)
    targets = np.arange(60) % N_EMOTIONS
    rows = (rng.normal(size=(60, N_FEATURES)) + 2 * np.eye(N_EMOTIONS, N_FEATURES)[targets]).astype(np.float32)
    return fit_state(small(name), rows, targets, np.ones(60), N_EMOTIONS)


def loaded(name: str, state: dict[str, Tensor]) -> torch.nn.Module:
    model = build_model(small(name), N_FEATURES, N_EMOTIONS)
    model.load_state_dict(state)
    return model.eval()


@pytest.mark.parametrize("name", CLASSICAL)
def test_the_saved_state_is_the_fitted_state(name):
    state = state_of(name)
    saved = loaded(name, state).state_dict()
    assert saved.keys() == state.keys()
    assert all(torch.equal(saved[key], value) for key, value in state.items())


@pytest.mark.parametrize("name", CLASSICAL)
def test_the_input_is_the_mean_over_frames_without_padding(name):
    model, clip = loaded(name, state_of(name)), torch.randn(1, 4, N_FEATURES)
    padded = torch.cat([clip, torch.zeros(1, 3, N_FEATURES)], dim=1)
    with torch.inference_mode():
        expected = model(clip.mean(dim=1, keepdim=True), torch.tensor([1]))
        torch.testing.assert_close(model(padded, torch.tensor([4])), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", CLASSICAL)
def test_other_clips_of_the_batch_change_no_logit(name):
    model, rows = loaded(name, state_of(name)), torch.randn(20, 1, N_FEATURES)
    with torch.inference_mode():
        together = model(rows, torch.ones(20, dtype=torch.int64))
        alone = torch.cat([model(row[None], torch.ones(1, dtype=torch.int64)) for row in rows])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)


def test_parameters_that_the_configuration_decides_are_counted_before_the_fit():
    counts = {name: count_parameters(small(name), N_FEATURES, N_EMOTIONS) for name in CLASSICAL}
    plane, hidden = (N_FEATURES + 1) * N_EMOTIONS, (N_FEATURES + 1) * 5 + (5 + 1) * N_EMOTIONS
    assert counts == dict.fromkeys(STORED, 0) | {"svm_linear": plane, "logistic": plane, "mlp_sklearn": hidden}


@pytest.mark.parametrize("name", STORED)
def test_a_model_without_a_fit_refuses_to_predict(name):
    model = build_model(small(name), N_FEATURES, N_EMOTIONS)
    with pytest.raises(UserError, match="was not fitted"):
        model(torch.zeros(1, 1, N_FEATURES), torch.tensor([1]))


@pytest.mark.parametrize("name", STORED)
def test_another_models_weights_are_refused(name):
    with pytest.raises(BundleError, match=r"got \['skops'\]"):
        loaded(name, {"skops": torch.zeros(4, dtype=torch.uint8)})


@pytest.mark.parametrize("name", STORED)
def test_weights_for_other_features_are_refused(name):
    with pytest.raises(BundleError):
        build_model(small(name), 1, N_EMOTIONS).load_state_dict(state_of(name))


@pytest.mark.parametrize("name", STORED)
def test_values_that_are_not_finite_are_refused(name):
    state = state_of(name)
    key = next(key for key, value in state.items() if value.is_floating_point() and value.ndim)
    state[key].view(-1)[0] = float("nan")
    with pytest.raises(BundleError, match=f"{key} of .* has values that are not finite"):
        loaded(name, state)


@pytest.mark.parametrize("name", STORED)
def test_a_tensor_of_another_type_is_refused(name):
    state = state_of(name)
    key = next(key for key, value in state.items() if value.is_floating_point())
    with pytest.raises(BundleError, match=f"{key} of .* must be torch.float32"):
        loaded(name, state | {key: state[key].double()})


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize(
    ("key", "value"),
    [("left", 10_000), ("left", -1), ("right", 0), ("feature", N_FEATURES), ("feature", -1), ("roots", -1)],
)
def test_a_tree_with_an_index_outside_its_table_or_upwards_is_refused(name, key, value):
    state = state_of(name)
    state[key][-1] = value
    with pytest.raises(BundleError, match=f"{key} of .* has an index outside the model"):
        loaded(name, state)


def test_a_neighbour_with_an_unknown_class_is_refused():
    state = state_of("knn")
    state["classes"][0] = N_EMOTIONS
    with pytest.raises(BundleError, match="classes of Neighbours has an index outside"):
        loaded("knn", state)


def test_fewer_clips_than_neighbours_are_refused():
    with pytest.raises(BundleError, match="Neighbours has 3 clips, fewer than 5 neighbours"):
        Neighbours(2, 2, neighbours=5).load_state_dict(
            {"clips": torch.zeros(3, 2), "classes": torch.zeros(3, dtype=torch.int32)}
        )


def test_a_tree_computed_by_hand():
    # feature 1 <= 0.5: scores (1, 0); else (1/4, 3/4)
    model = TreeScores(2, 2)
    state = {
        "roots": torch.tensor([0]),
        "feature": torch.tensor([1, 0, 0]),
        "threshold": torch.tensor([0.5, 0.0, 0.0]),
        "left": torch.tensor([1, 1, 2]),
        "right": torch.tensor([2, 1, 2]),
        "values": torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.25, 0.75]]),
        "offset": torch.zeros(2),
        "depth": torch.tensor(1),
    }
    model.load_state_dict({key: v if v.is_floating_point() else v.int() for key, v in state.items()})
    rows = torch.tensor([[9.0, 0.5], [9.0, 0.6]])[:, None]
    assert model(rows, torch.tensor([1, 1])).tolist() == [[1.0, 0.0], [0.25, 0.75]]
