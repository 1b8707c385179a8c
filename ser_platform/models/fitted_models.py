"""Models that scikit-learn fits (`training.closed_form`) as tensors: support vector machines, trees, neighbours.

A bundle contains numbers only: nothing is unpickled, and it can be read with every version of scikit-learn. The models
receive one row per clip, the mean over its frames.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ser_platform.errors import BundleError, UserError
from ser_platform.models.masking import mean_over_frames

# The least share of votes, for a class without a vote: a finite logarithm.
LEAST_SHARE = 1e-3


class RowModel(nn.Module):
    """A model that receives one row per clip, the mean over its frames."""

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map features `(batch, n_frames, n_features)` and lengths to logits `(batch, n_emotions)`."""
        return self.scores(mean_over_frames(features, lengths))

    def scores(self, rows: Tensor) -> Tensor:
        """Map rows `(batch, n_features)` to logits `(batch, n_emotions)`."""
        raise NotImplementedError


class LinearScores(RowModel):
    """One hyperplane per class: logits of a logistic or ridge regression, or distances of a linear SVM.

    Distances are in units of their standard deviation over the training clips.
    """

    def __init__(self, n_features: int, n_emotions: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_features, n_emotions)

    def scores(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.layer(rows)
        return logits


class Perceptron(RowModel):
    """One hidden layer with ReLU."""

    def __init__(self, n_features: int, n_emotions: int, *, hidden_size: int) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(n_features, hidden_size), nn.Linear(hidden_size, n_emotions)

    def scores(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.output(self.hidden(rows).relu())
        return logits


class FittedModel(RowModel):
    """A model whose size depends on the training clips: it is empty until `load_state_dict`.

    Attributes:
        shapes: the named dimensions of every tensor; equal names are equal sizes.
        integer_tensors: names of the tensors of indices, int32; the others are float32.
    """

    shapes: ClassVar[Mapping[str, tuple[str, ...]]]
    integer_tensors: ClassVar[tuple[str, ...]] = ()

    def __init__(self, n_features: int, n_emotions: int) -> None:
        super().__init__()
        self.sizes = {"features": n_features, "emotions": n_emotions, "pairs": n_emotions * (n_emotions - 1) // 2}
        for name in self.shapes:
            self.register_buffer(name, torch.empty(0))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map features `(batch, n_frames, n_features)` and lengths to logits `(batch, n_emotions)`.

        Raises UserError where no fit was loaded.
        """
        if any(not tensor.numel() for tensor in self.buffers()):
            raise UserError(f"{type(self).__name__} was not fitted; train it first")
        return super().forward(features, lengths)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a fit; raises BundleError where names, shapes, types or values are not valid."""
        self._check(state_dict)
        for name in self.shapes:
            setattr(self, name, torch.empty_like(state_dict[name]))
        return super().load_state_dict(state_dict, strict, assign)

    def _check(self, state: Mapping[str, Tensor]) -> None:
        what = type(self).__name__
        if state.keys() != self.shapes.keys():
            raise BundleError(f"the weights of {what} are {sorted(self.shapes)}; got {sorted(state)}")
        sizes = dict(self.sizes)
        for name, shape in self.shapes.items():
            tensor = state[name]
            expected = torch.int32 if name in self.integer_tensors else torch.float32
            if tensor.dtype != expected or tensor.ndim != len(shape) or not tensor.numel():
                raise BundleError(
                    f"{name} of {what} must be {expected} of {' x '.join(shape) or 'a single number'}; "
                    f"got {tensor.dtype} {tuple(tensor.shape)}"
                )
            for dimension, size in zip(shape, tensor.shape, strict=True):
                if sizes.setdefault(dimension, size) != size:
                    raise BundleError(f"{name} of {what} has {size} {dimension}, not {sizes[dimension]}")
            if name not in self.integer_tensors and not torch.isfinite(tensor).all():
                raise BundleError(f"{name} of {what} has values that are not finite")

    def _check_range(self, state: Mapping[str, Tensor], name: str, low: Tensor | int, stop: int) -> None:
        if bool((state[name] < low).any()) or bool((state[name] >= stop).any()):
            raise BundleError(f"{name} of {type(self).__name__} has an index outside the model")


class KernelMachine(FittedModel):
    """A support vector machine of every pair of classes; logits are scikit-learn's `decision_function`.

    With three or more classes: the number of pairs that a class wins, plus a term in (-1/3, 1/3) from the sum of its
    distances (`sklearn.utils.multiclass._ovr_decision_function`). With two classes: half the distance.

    Tensors: the support vectors, their coefficients in each pair (i, j), i < j, whose distance is positive for i, the
    intercepts of the pairs, and gamma.
    """

    shapes: ClassVar = {
        "support": ("clips", "features"),
        "coefficients": ("clips", "pairs"),
        "intercepts": ("pairs",),
        "gamma": (),
    }
    support: Tensor
    coefficients: Tensor
    intercepts: Tensor
    gamma: Tensor

    def kernel(self, rows: Tensor) -> Tensor:
        """Return the kernel of rows `(batch, n_features)` with each support vector, `(batch, n_clips)`."""
        raise NotImplementedError

    def scores(self, rows: Tensor) -> Tensor:
        distances = self.kernel(rows) @ self.coefficients + self.intercepts
        n_emotions = self.sizes["emotions"]
        if n_emotions == 2:
            return torch.cat([distances, -distances], dim=1) / 2
        first, second = torch.triu_indices(n_emotions, n_emotions, offset=1, device=distances.device)
        sides = F.one_hot(first, n_emotions), F.one_hot(second, n_emotions)
        of_first, of_second = (side.to(distances.dtype) for side in sides)
        wins = (distances >= 0).to(distances.dtype) @ of_first + (distances < 0).to(distances.dtype) @ of_second
        total = distances @ (of_first - of_second)
        return wins + total / (3 * (total.abs() + 1))


class RbfMachine(KernelMachine):
    """A support vector machine with the kernel exp(-gamma |x - y|^2)."""

    def kernel(self, rows: Tensor) -> Tensor:
        # cdist's default uses scalar products, which lose the digits of small distances.
        distances = torch.cdist(rows, self.support, compute_mode="donot_use_mm_for_euclid_dist")
        return torch.exp(-self.gamma * distances**2)


class PolynomialMachine(KernelMachine):
    """A support vector machine with the kernel (1 + gamma x y)^degree."""

    def __init__(self, n_features: int, n_emotions: int, *, degree: int) -> None:
        super().__init__(n_features, n_emotions)
        self.degree = degree

    def kernel(self, rows: Tensor) -> Tensor:
        return (1 + self.gamma * rows @ self.support.T) ** self.degree


class TreeScores(FittedModel):
    """A sum over binary trees: each adds the values of the leaf that a row reaches.

    The nodes of all trees are in one table. At an inner node a row moves to `left` where its `feature` is at most
    `threshold`, else to `right`, both further down the table; a leaf points to itself. No row needs more than `depth`
    steps.
    """

    shapes: ClassVar = {
        "roots": ("trees",),
        "feature": ("nodes",),
        "threshold": ("nodes",),
        "left": ("nodes",),
        "right": ("nodes",),
        "values": ("nodes", "emotions"),
        "offset": ("emotions",),
        "depth": (),
    }
    integer_tensors = ("roots", "feature", "left", "right", "depth")
    roots: Tensor
    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    values: Tensor
    offset: Tensor
    depth: Tensor

    def _check(self, state: Mapping[str, Tensor]) -> None:
        super()._check(state)
        n_nodes = len(state["feature"])
        self._check_range(state, "roots", 0, n_nodes)
        self._check_range(state, "feature", 0, self.sizes["features"])
        self._check_range(state, "depth", 0, n_nodes)
        for side in ("left", "right"):
            self._check_range(state, side, torch.arange(n_nodes), n_nodes)  # never upwards: there are no cycles

    def scores(self, rows: Tensor) -> Tensor:
        node = self.roots.expand(len(rows), -1)
        for _ in range(int(self.depth)):
            goes_left = rows.gather(1, self.feature[node].long()) <= self.threshold[node]
            node = torch.where(goes_left, self.left[node], self.right[node])
        return self.values[node].sum(dim=1) + self.offset


class TreeVotes(TreeScores):
    """Trees whose leaves contain shares of votes; the sums over trees add up to 1, and logits are their logarithms."""

    def scores(self, rows: Tensor) -> Tensor:
        return super().scores(rows).clamp(min=LEAST_SHARE).log()


class Neighbours(FittedModel):
    """The training clips: the nearest `neighbours` vote, and logits are the logarithms of their shares."""

    shapes: ClassVar = {"clips": ("clips", "features"), "classes": ("clips",)}
    integer_tensors = ("classes",)
    clips: Tensor
    classes: Tensor

    def __init__(self, n_features: int, n_emotions: int, *, neighbours: int) -> None:
        super().__init__(n_features, n_emotions)
        self.neighbours = neighbours

    def _check(self, state: Mapping[str, Tensor]) -> None:
        super()._check(state)
        self._check_range(state, "classes", 0, self.sizes["emotions"])
        if len(state["classes"]) < self.neighbours:
            raise BundleError(f"Neighbours has {len(state['classes'])} clips, fewer than {self.neighbours} neighbours")

    def scores(self, rows: Tensor) -> Tensor:
        distances = torch.cdist(rows, self.clips, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distances.topk(self.neighbours, largest=False).indices
        votes = F.one_hot(self.classes[nearest].long(), self.sizes["emotions"])
        return votes.to(rows.dtype).mean(dim=1).clamp(min=LEAST_SHARE).log()
