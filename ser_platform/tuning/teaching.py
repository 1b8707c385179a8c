"""Out-of-fold teacher outputs: a training clip is labelled by a teacher that heard neither its speaker nor dev.

Speakers are dealt into groups, the dev speakers being one. The fold teacher without groups a and b labels a when b is
dev, and b when a is dev, so rotating dev shares teachers: it needs pairs, not folds times rotations.
"""

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.splits import Split, training_groups
from ser_platform.distillation.outputs import OutputsKey, assemble, read_outputs, write_outputs
from ser_platform.errors import CorpusError
from ser_platform.settings import Settings
from ser_platform.tuning.cluster import Cluster
from ser_platform.tuning.fits import Counting, fit_all
from ser_platform.tuning.trainable import FitJob, Task

Groups = tuple[str, ...]


class FoldTeachers:
    """Labels the training clips of a split, and of its rotations, with teachers of one recipe.

    `groups` deal the training and dev speakers; None takes dev as one group, and deals the others.
    """

    def __init__(
        self,
        split: Split,
        settings: Settings,
        stop_after: int,
        teacher_digest: str,
        where: Cluster,
        counting: Counting,
        groups: list[Groups] | None = None,
    ) -> None:
        # Copies are made of a split's training clips, fold teachers train on dev speakers too: they go without, and the
        # key of their outputs says so.
        settings = settings | {"augment.copies": 0}
        self._split, self._settings, self._stop_after = split, settings, stop_after
        self._digest, self._where, self._counting = teacher_digest, where, counting
        manifest = split.manifest
        self._hashes = tuple(manifest.column("audio_sha256"))
        self._labels = manifest.labels
        self._targets = manifest.targets(self._labels)
        self._speaker = manifest.column("speaker")
        self._languages = tuple(manifest.column("language"))
        self._pool = np.sort(np.concatenate([split.train, split.dev]))  # test clips are nobody's to learn from
        self._groups = groups or [split.speakers("dev"), *training_groups(split)]
        self.trained = 0

    def logits(self, split: Split) -> NDArray[np.float32]:
        """Return teacher logits `(n_clips, n_emotions)` for the training clips of `split`, NaN elsewhere.

        Raises:
            CorpusError: the dev speakers of `split` are none of the groups, so its teachers would have seen them.
        """
        dev = split.speakers("dev")
        if dev not in self._groups:
            raise CorpusError(f"no teacher was kept from the dev speakers {', '.join(dev)}")
        folds = [group for group in self._groups if group != dev]
        self._ensure([(dev, fold) for fold in folds])
        outputs = []
        for fold in folds:
            found = read_outputs(self._key(dev, fold))
            assert found is not None
            in_fold = {self._hashes[row] for row in self._rows(fold)}
            outputs.append({digest: values for digest, values in found.items() if digest in in_fold})
        return assemble(outputs, self._hashes, split.train, len(self._labels))

    def _rows(self, *groups: Groups) -> NDArray[np.int64]:
        speakers = [speaker for group in groups for speaker in group]
        return self._pool[np.isin(self._speaker[self._pool], speakers)]

    def _kept(self, first: Groups, second: Groups) -> NDArray[np.int64]:
        return self._rows(*(group for group in self._groups if group not in (first, second)))

    def _key(self, first: Groups, second: Groups) -> OutputsKey:
        trained, labelled = self._kept(first, second), self._rows(first, second)
        return OutputsKey(
            mode="out_of_fold",
            teacher_digest=self._digest,
            settings=self._settings,
            trained_on=tuple(sorted(self._hashes[row] for row in trained)),
            labels_clips=tuple(sorted(self._hashes[row] for row in labelled)),
            stop_after=self._stop_after,
            labels=self._labels,
        )

    def _ensure(self, pairs: list[tuple[Groups, Groups]]) -> None:
        missing = [pair for pair in pairs if read_outputs(self._key(*pair)) is None]
        if not missing:
            return
        jobs = []
        for pair in missing:
            kept, speakers = self._kept(*pair), tuple(self._speaker)
            task = Task(self._hashes, self._targets, self._labels, kept, None, speakers, languages=self._languages)
            jobs.append(FitJob(self._settings, task, label=self._rows(*pair), stop_after=self._stop_after))
        with self._counting("fold teachers label clips they have not heard") as progress:
            fits = fit_all(jobs, self._where, progress)
        for pair, done in zip(missing, fits, strict=True):
            write_outputs(self._key(*pair), [self._hashes[row] for row in self._rows(*pair)], done.label_logits)
        self.trained += len(missing)
