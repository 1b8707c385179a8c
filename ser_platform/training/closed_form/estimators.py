"""scikit-learn's estimators of classical models, and their export to the tensors of `models.fitted_models`."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, GradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor

from ser_platform.errors import WorkFailed
from ser_platform.models import fill_default_sizes
from ser_platform.settings import Settings

Rows = NDArray[np.float32]  # scaled features, (n_clips, n_features)
Classes = NDArray[np.int64]
State = dict[str, Tensor]

ABSENT_CLASS_LOGIT = -10.0  # logit of a class without a training clip
LEAST_DISTANCE = 1e-6  # least deviation of the distances from the planes of svm_linear
WEAK_TREE_DEPTH = 3  # levels of boosted trees where model.depth is 0: full trees leave no error to boost
# Shares of rows and columns of each tree of `boosting`: Friedman (2002), Stochastic gradient boosting.
SUBSAMPLE, COLUMNS = 0.7, "sqrt"
MAX_ITERATIONS = {"svm_linear": 5000, "logistic": 1000, "mlp_sklearn": 300}


def fit_state(settings: Settings, rows: Rows, targets: Classes, weights: NDArray[np.float64], n_emotions: int) -> State:
    """Fit the model of `settings` and return its tensors for `load_state_dict`.

    Args:
        settings: `model.c` must be above 0 where the model has it.
        rows: scaled features of the training clips, `(n_clips, n_features)`.
        targets, weights: class index and weight of each row; k-NN ignores weights.
        n_emotions: number of classes, also of classes without a row.
    """
    name = settings.model.name
    if name == "knn":
        return {"clips": torch.from_numpy(rows), "classes": torch.from_numpy(targets.astype(np.int32))}
    estimator = fit_estimator(settings, rows, targets, weights)
    if name == "svm_linear":
        # The penalty scales distances by up to a hundred; logits in units of their deviation do not depend on it.
        unit = max(float(estimator.decision_function(rows).std()), LEAST_DISTANCE)
        estimator.coef_, estimator.intercept_ = estimator.coef_ / unit, estimator.intercept_ / unit
    return STATE_EXPORTERS[name](estimator, n_emotions)


def fit_estimator(settings: Settings, rows: Rows, targets: Classes, weights: NDArray[np.float64]) -> Any:
    """Return the fitted estimator of scikit-learn.

    Raises WorkFailed where trees of `model.depth` are too small for AdaBoost.
    """
    estimator = ESTIMATORS[settings.model.name](fill_default_sizes(settings), rows)
    with warnings.catch_warnings():
        # A solver that stops at its limit is no failure: the dev metrics evaluate its model.
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # the caller checks for divergence
                return estimator.fit(rows, targets, sample_weight=weights)
        except ValueError as error:
            if "worse than random" not in str(error):
                raise
            raise WorkFailed(f"{settings.model.name}: {error}; raise model.depth") from error


def _make_svm(kernel: str, settings: Settings, rows: Rows) -> Any:
    gamma = settings.model.gamma or 1 / (rows.shape[1] * float(rows.var()))
    # coef0 adds all lower degrees to the polynomial kernel.
    return SVC(kernel=kernel, C=settings.model.c, gamma=gamma, degree=settings.model.degree, coef0=1.0)


def _list_tree_options(settings: Settings, default_depth: int | None = None) -> dict[str, Any]:
    depth = settings.model.depth or default_depth
    return {"max_depth": depth, "min_samples_leaf": settings.model.leaf, "random_state": settings.seed}


def _make_adaboost(settings: Settings) -> Any:
    return AdaBoostClassifier(
        DecisionTreeClassifier(**_list_tree_options(settings, WEAK_TREE_DEPTH)),
        n_estimators=settings.model.trees,
        learning_rate=settings.model.learning_rate,
        random_state=settings.seed,
    )


def _make_bagging(settings: Settings) -> Any:
    tree = DecisionTreeClassifier(**_list_tree_options(settings))
    return BaggingClassifier(tree, n_estimators=settings.model.trees, random_state=settings.seed)


def _make_boosting(settings: Settings) -> Any:
    """Return exact gradient boosting; with a thousand clips of 170 columns, histograms take ten times as long."""
    return GradientBoostingClassifier(
        n_estimators=settings.model.trees,
        learning_rate=settings.model.learning_rate,
        subsample=SUBSAMPLE,
        max_features=COLUMNS,
        init="zero",
        **_list_tree_options(settings, WEAK_TREE_DEPTH),
    )


def _make_perceptron(settings: Settings) -> Any:
    return MLPClassifier(
        (settings.model.hidden_size,),
        alpha=settings.optimizer.weight_decay,
        learning_rate_init=settings.optimizer.lr,
        max_iter=MAX_ITERATIONS["mlp_sklearn"],
        random_state=settings.seed,
    )


ESTIMATORS: dict[str, Callable[[Settings, Rows], Any]] = {
    "svm_linear": lambda s, _: LinearSVC(C=s.model.c, max_iter=MAX_ITERATIONS["svm_linear"], random_state=s.seed),
    "svm_rbf": partial(_make_svm, "rbf"),
    "svm_poly": partial(_make_svm, "poly"),
    "tree": lambda s, _: DecisionTreeClassifier(**_list_tree_options(s)),
    "forest": lambda s, _: RandomForestClassifier(s.model.trees, **_list_tree_options(s)),
    "bagging": lambda s, _: _make_bagging(s),
    "adaboost": lambda s, _: _make_adaboost(s),
    "boosting": lambda s, _: _make_boosting(s),
    "mlp_sklearn": lambda s, _: _make_perceptron(s),
    "logistic": lambda s, _: LogisticRegression(C=s.model.c, max_iter=MAX_ITERATIONS["logistic"]),
}


def _to_float32(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _scatter_to_classes(
    values: NDArray[Any], classes: Classes, n_emotions: int, absent: float = 0.0
) -> NDArray[np.float64]:
    """Return values `(..., n_classes)` in the columns of their classes, `(..., n_emotions)`."""
    placed = np.full((*values.shape[:-1], n_emotions), absent)
    placed[..., classes] = values
    return placed


def _split_binary_score(values: NDArray[Any]) -> NDArray[Any]:
    """Return scores of both classes `(..., 2)` where there is one score for the second class, `(..., 1)`."""
    return np.concatenate([-values, values], axis=-1) / 2 if values.shape[-1] == 1 else values


def _export_dense(
    coefficients: NDArray[Any], intercepts: NDArray[Any], classes: Classes, n: int
) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a linear layer from `(n_inputs, n_scores)` and `(n_scores,)`."""
    weight = _scatter_to_classes(_split_binary_score(coefficients), classes, n)
    bias = _scatter_to_classes(_split_binary_score(intercepts), classes, n, ABSENT_CLASS_LOGIT)
    return _to_float32(weight.T), _to_float32(bias)


def _export_linear(estimator: Any, n_emotions: int) -> State:
    weight, bias = _export_dense(estimator.coef_.T, estimator.intercept_, estimator.classes_, n_emotions)
    return {"layer.weight": weight, "layer.bias": bias}


def _export_perceptron(estimator: Any, n_emotions: int) -> State:
    (first, last), (shift, intercepts) = estimator.coefs_, estimator.intercepts_
    weight, bias = _export_dense(last, intercepts, estimator.classes_, n_emotions)
    return {
        "hidden.weight": _to_float32(first.T),
        "hidden.bias": _to_float32(shift),
        "output.weight": weight,
        "output.bias": bias,
    }


def _export_kernel(estimator: Any, n_emotions: int) -> State:
    """Return support vectors, and the coefficient of each in the distance of every pair of classes.

    libsvm stores a vector's coefficients against each other class, one row per class, without its own class.
    """
    classes, dual = estimator.classes_, estimator.dual_coef_
    starts = np.cumsum([0, *estimator.n_support_])
    sign = -1 if len(classes) == 2 else 1  # scikit-learn reverses the only pair
    pairs = {(int(a), int(b)): n for n, (a, b) in enumerate(zip(*np.triu_indices(n_emotions, 1), strict=True))}
    coefficients = np.zeros((len(estimator.support_vectors_), len(pairs)))
    # A class without a clip loses against every other.
    intercepts = np.array([float(a in classes or b not in classes) * 2 - 1 for a, b in pairs])
    for number, (i, j) in enumerate(zip(*np.triu_indices(len(classes), 1), strict=True)):
        pair = pairs[int(classes[i]), int(classes[j])]
        of_i, of_j = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
        coefficients[of_i, pair], coefficients[of_j, pair] = sign * dual[j - 1, of_i], sign * dual[i, of_j]
        intercepts[pair] = sign * estimator.intercept_[number]
    return {
        "support": _to_float32(estimator.support_vectors_),
        "coefficients": _to_float32(coefficients),
        "intercepts": _to_float32(intercepts),
        "gamma": torch.tensor(estimator.gamma, dtype=torch.float32),
    }


def _export_forest(trees: list[Any], values: list[NDArray[Any]], offset: NDArray[Any]) -> State:
    """Return trees as one table of nodes; `values` has an array `(n_nodes, n_emotions)` for each tree."""
    starts = np.cumsum([0, *(tree.node_count for tree in trees)])
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("feature", "threshold", "left", "right")}
    for start, tree in zip(starts, trees, strict=False):
        is_leaf = tree.children_left < 0
        itself = np.arange(tree.node_count)
        columns["feature"].append(np.where(is_leaf, 0, tree.feature))
        columns["threshold"].append(np.where(is_leaf, 0.0, tree.threshold))
        columns["left"].append(start + np.where(is_leaf, itself, tree.children_left))
        columns["right"].append(start + np.where(is_leaf, itself, tree.children_right))
    table = {name: np.concatenate(parts) for name, parts in columns.items()}
    table |= {"roots": starts[:-1], "depth": np.array(max(tree.max_depth for tree in trees))}
    state = {name: torch.from_numpy(column.astype(np.int32)) for name, column in table.items() if name != "threshold"}
    # Rows are float32, so a threshold is rounded down to float32 without a change of any comparison.
    threshold = table["threshold"].astype(np.float32)
    above = threshold > table["threshold"]
    threshold[above] = np.nextafter(threshold[above], np.float32(-np.inf))
    return state | {
        "threshold": _to_float32(threshold),
        "values": _to_float32(np.concatenate(values)),
        "offset": _to_float32(offset),
    }


def _export_votes(trees: list[Any], classes: Classes, n_emotions: int) -> State:
    """Return trees whose leaves contain shares of classes, divided by the number of trees."""
    values = []
    for tree in trees:
        counts = tree.tree_.value[:, 0]
        own = classes[tree.classes_.astype(np.int64)]  # a tree has its own class numbers
        values.append(_scatter_to_classes(counts / counts.sum(axis=1, keepdims=True) / len(trees), own, n_emotions))
    return _export_forest([tree.tree_ for tree in trees], values, np.zeros(n_emotions))


def _export_adaboost(estimator: Any, n_emotions: int) -> State:
    """Return weighted trees; logits are f / (K - 1) of Zhu, Zou, Rosset & Hastie (2009), Multi-class AdaBoost."""
    classes, others = estimator.classes_, len(estimator.classes_) - 1
    values = []
    for tree, weight in zip(estimator.estimators_, estimator.estimator_weights_, strict=False):
        predicted = np.eye(len(tree.classes_))[tree.tree_.value[:, 0].argmax(axis=1)]
        votes = _scatter_to_classes(predicted, np.searchsorted(classes, tree.classes_), len(classes))
        values.append(_scatter_to_classes(weight * (votes - (1 - votes) / others) / others, classes, n_emotions))
    return _export_forest(
        [tree.tree_ for tree in estimator.estimators_], values, _make_absent_offset(classes, n_emotions)
    )


def _export_boosting(estimator: Any, n_emotions: int) -> State:
    classes, n_scores = estimator.classes_, estimator.estimators_.shape[1]
    trees, values = [tree.tree_ for tree in estimator.estimators_.ravel()], []
    for number, tree in enumerate(trees):
        score = np.eye(n_scores)[number % n_scores]
        added = _split_binary_score(estimator.learning_rate * tree.value[:, 0] * score)
        values.append(_scatter_to_classes(added, classes, n_emotions))
    return _export_forest(trees, values, _make_absent_offset(classes, n_emotions))


def _make_absent_offset(classes: Classes, n_emotions: int) -> NDArray[np.float64]:
    return _scatter_to_classes(np.zeros(len(classes)), classes, n_emotions, ABSENT_CLASS_LOGIT)


STATE_EXPORTERS: dict[str, Callable[[Any, int], State]] = {
    "svm_linear": _export_linear,
    "svm_rbf": _export_kernel,
    "svm_poly": _export_kernel,
    "tree": lambda tree, n: _export_votes([tree], np.arange(n), n),
    "forest": lambda forest, n: _export_votes(forest.estimators_, forest.classes_, n),
    "bagging": lambda bagging, n: _export_votes(bagging.estimators_, bagging.classes_, n),
    "adaboost": _export_adaboost,
    "boosting": _export_boosting,
    "mlp_sklearn": _export_perceptron,
    "logistic": _export_linear,
}
