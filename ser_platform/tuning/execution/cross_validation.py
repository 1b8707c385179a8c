"""Cross-validation inside a trial: speaker-disjoint folds of one configuration, trained in lockstep.

Each fold is trained without one group of the training and dev speakers and evaluated on it; test clips are not used.
A trial's score is the mean over folds after each epoch, so that early stopping applies. It depends less on individual
dev speakers than a single split.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from ser_platform.corpora.splits.folds import assign_folds
from ser_platform.corpora.splits.split import Split
from ser_platform.errors import CorpusError, UserError
from ser_platform.training.epoch_result import EpochResult
from ser_platform.training.state_serialisation import read_random_state, restore_random
from ser_platform.training.trainers import TrainerProtocol

AVERAGED_METRICS = ("train_loss", "dev_loss", "dev_uar", "dev_war", "dev_macro_f1")


def split_into_folds(split: Split, n_folds: int) -> list[Split]:
    """Return splits with the same test clips; each speaker of train and dev is in the dev part of one of them.

    Speakers of each sex are distributed evenly over the folds.

    Raises:
        UserError: `n_folds` is below 2.
        CorpusError: there are fewer speakers than folds, or a fold would train without some emotion.
    """
    if n_folds < 2:
        raise UserError(f"data.folds {n_folds}: a fold is evaluated on the speakers of another; give 2 or more")
    pool = split.manifest.take(np.sort(np.concatenate([split.train, split.dev])))
    if len(pool.speakers) < n_folds:
        raise CorpusError(f"data.folds {n_folds}: train and dev have {len(pool.speakers)} speakers, a fold needs one")
    return assign_folds(pool, n_folds, split.seed, lambda groups: [split.with_dev(group) for group in groups])


class FoldTrainer:
    """Trains the folds of one configuration in lockstep, one epoch of each at a time, with all models in memory.

    Each fold has its own state of the random generators, so that it draws the same numbers as alone.
    """

    def __init__(self, make_trainers: Sequence[Callable[[], TrainerProtocol]], device: torch.device) -> None:
        self._device = device
        self.trainers: list[TrainerProtocol] = []
        self._generators = []
        for make in make_trainers:
            self.trainers.append(make())  # which seeds the generators
            self._generators.append(read_random_state(device))

    def epochs(self, patience: int) -> Iterator[EpochResult]:
        """Yield the means over folds (of `seconds` the sum); end `patience` epochs after the best mean dev UAR.

        Raises:
            Diverged: a fold's loss is not finite.
        """
        running = [trainer.epochs() for trainer in self.trainers]
        best: EpochResult | None = None
        while results := self._train_next_epochs(running):
            means = {name: float(np.mean([getattr(result, name) for result in results])) for name in AVERAGED_METRICS}
            epoch, seconds = results[0].epoch, sum(result.seconds for result in results)
            if best is None or (means["dev_uar"], -means["dev_loss"]) > (best.dev_uar, -best.dev_loss):
                best = EpochResult(
                    epoch=epoch, **means, best_dev_uar=means["dev_uar"], best_epoch=epoch, seconds=seconds
                )
            yield EpochResult(epoch=epoch, **means, best_dev_uar=best.dev_uar, best_epoch=best.epoch, seconds=seconds)
            if epoch - best.epoch >= patience:
                return

    def _train_next_epochs(self, running: Sequence[Iterator[EpochResult]]) -> list[EpochResult]:
        """Return the next result of each fold, [] after the last epoch."""
        results = []
        for number, epochs in enumerate(running):
            restore_random(self._device, *self._generators[number])
            results += [result for result in (next(epochs, None),) if result is not None]
            self._generators[number] = read_random_state(self._device)
        return results
