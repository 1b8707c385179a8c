"""Costs of a configuration that are known before training."""

from ser_platform.settings import resolve
from ser_platform.tuning.search_space.costs import SETTINGS_WITHOUT_COST, compute_costs


def costs(**changes):
    settings = resolve({"model.name": "separable_cnn", "model.width": 8} | changes)
    return compute_costs(settings, 7, ["parameters", "macs"])


def test_settings_without_weights_change_no_cost_and_others_do():
    others = {"seed": 5, "optimizer.lr": 0.01, "optimizer.weight_decay": 0.2, "model.dropout": 0.4}
    others |= {"train.label_smoothing": 0.1, "train.epochs": 3}
    assert others.keys() == set(SETTINGS_WITHOUT_COST)
    assert costs(**others) == costs()
    wider, longer = costs(**{"model.width": 16}), costs(**{"data.max_seconds": 5.0})
    assert wider["parameters"] > costs()["parameters"]
    assert longer["macs"] > costs()["macs"]
