"""What a teacher says to the training clips of a split, and to their copies: computed once, kept, calibrated.

Out of fold, a training clip is labelled by a teacher that heard neither its speaker nor dev. Speakers are dealt into
groups, the dev speakers being one. The fold teacher without groups a and b labels a when b is dev, and b when a is dev,
so rotating dev shares teachers: it needs pairs, not folds times rotations.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.lineage import refuse_leak
from ser_platform.corpora.splits.split import Split, training_groups
from ser_platform.distillation.hint_targets import encoder_embeddings, refuse_hintless
from ser_platform.distillation.outputs import (
    ENSEMBLE,
    FOLD,
    IN_SAMPLE,
    OUT_OF_FOLD,
    REGISTERED,
    OutputsKey,
    TeacherOutputs,
    assemble,
    averaged,
    read_outputs,
    require_labelled,
    write_outputs,
)
from ser_platform.errors import CorpusError, UserError
from ser_platform.evaluation.scoring import logits_of_stored
from ser_platform.features.augmented_clips import NO_COPIES, CopiedClips
from ser_platform.features.views.normaliser import SPEAKER
from ser_platform.settings import Settings
from ser_platform.training.calibration import fit_temperature
from ser_platform.training.hint_loss import OFF
from ser_platform.tuning.execution.cluster import Cluster
from ser_platform.tuning.execution.fit_job import NOBODY, UNLABELLED, FitJob, Task
from ser_platform.tuning.execution.fit_pool import Counting, fit_all
from ser_platform.tuning.teacher_labels.teacher import Teacher

Groups = tuple[str, ...]
Rows = NDArray[np.int64]
Logits = NDArray[np.float32]
Digests = tuple[str, ...]
PLAIN: Settings = {"augment.copies": 0, "distill.hint": OFF, "distill.unlabelled": ""}
SUREST = 0.01  # the least temperature: a ridge classifier's logits lie within 1


class Teaching:
    """What one registered teacher says, in each mode of `distill.outputs`, to a split and to its rotations.

    `groups` deal the training and dev speakers; None takes dev as one group, and deals the others.
    """

    def __init__(
        self, teacher: Teacher, split: Split, where: Cluster, counting: Counting, groups: list[Groups] | None = None
    ) -> None:
        self._teacher, self._counting = teacher, counting
        own = None
        if teacher.own is not None and teacher.described.settings["distill.alpha"] > 0:
            own = partial(Teaching, teacher.own, where=where, counting=counting)
        self._folds = FoldTeachers(
            split,
            teacher.described.settings,
            teacher.epochs,
            teacher.digest,
            where,
            counting,
            groups,
            title=teacher.title,
            own=own,
        )

    def outputs(
        self, split: Split, modes: Iterable[str], copies: CopiedClips = NO_COPIES, unlabelled: Digests = ()
    ) -> dict[str, TeacherOutputs]:
        """Return what the teacher says in each of `modes`.

        Raises:
            UserError: it asks who speaks in clips of which nobody knows.
            CorpusError: the dev speakers of `split` are none of the groups, so its teachers would have heard them.
            LineageLeak: the registered teacher is asked itself, and has heard dev or test speakers.
        """
        if unlabelled and self._teacher.described.settings["features.normalise"] == SPEAKER:
            raise UserError(
                f"distill.unlabelled: nobody says who speaks, which teacher {self._teacher.title} must know "
                "(features.normalise speaker); take a teacher with global or utterance"
            )
        return {mode: self._said(split, mode, copies, unlabelled) for mode in modes}

    def hints(self, split: Split, copies: CopiedClips = NO_COPIES, unlabelled: Digests = ()) -> NDArray[np.float32]:
        """Return embeddings `(n_all, width)`: of a split's manifest, of copies of its clips, of unlabelled ones.

        Raises:
            UserError: the teacher has none to give.
        """
        settings = self._teacher.described.settings
        refuse_hintless(settings, self._teacher.title)
        return encoder_embeddings(settings, _Clips(split, copies, unlabelled).hashes)

    def refuse_heard(self, splits: Iterable[Split], modes: Collection[str]) -> None:
        """Refuse splits of which the registered teacher has heard dev or test, where it is to be asked itself.

        Raises:
            LineageLeak: it has; names the clips.
        """
        for split in splits if IN_SAMPLE in modes else ():
            title = f"distill.outputs {IN_SAMPLE}: teacher {self._teacher.title}"
            refuse_leak(self._teacher.described.lineage, split, title, parts=("dev", "test"))

    def _said(self, split: Split, mode: str, copies: CopiedClips, unlabelled: Digests) -> TeacherOutputs:
        if mode == IN_SAMPLE:
            return self._in_sample(split, copies, unlabelled)
        return self._folds.outputs(split, mode, copies, unlabelled)

    def _in_sample(self, split: Split, copies: CopiedClips, unlabelled: Digests) -> TeacherOutputs:
        """Return what the registered teacher says of the clips that it was trained on, as sure as its bundle says."""
        self.refuse_heard([split], [IN_SAMPLE])
        described, clips = self._teacher.described, _Clips(split, copies, unlabelled)
        rows = np.concatenate([split.train, clips.copies_of(split.train), clips.unlabelled])
        digests = [clips.hashes[row] for row in rows]
        key = OutputsKey(
            kind=REGISTERED,
            teacher_digest=self._teacher.digest,
            settings=described.settings,
            trained_on=(),
            labels_clips=tuple(sorted(digests)),
            stop_after=self._teacher.epochs,
            labels=described.labels,
        )
        if (found := read_outputs(key)) is None:
            with self._counting("teacher labels the clips that it was trained on") as progress:
                progress(0, 1)
                bundle = self._teacher.bundle()
                said = logits_of_stored(bundle, clips.hashes, clips.speakers, rows) / bundle.temperature
                write_outputs(key, digests, said.astype(np.float32), self._teacher.title)
                progress(1, 1)
            found = read_outputs(key)
        assert found is not None
        return clips.parted(assemble([found], clips.hashes, len(clips.labels)), split.train)


class _Clips:
    """The clips of a manifest, behind them their copies, and behind these unlabelled ones."""

    def __init__(self, split: Split, copies: CopiedClips, unlabelled: Digests = ()) -> None:
        manifest, originals = split.manifest, copies.originals
        speakers, languages = tuple(manifest.column("speaker")), tuple(manifest.column("language"))
        self.labels = manifest.labels
        self._n, self._originals = len(manifest), originals
        self.hashes: tuple[str, ...] = (*manifest.column("audio_sha256"), *copies.hashes, *unlabelled)
        self.speakers: tuple[str, ...] = (
            *speakers,
            *(speakers[row] for row in originals),
            *(NOBODY for _ in unlabelled),
        )
        self.languages = (*languages, *(languages[row] for row in originals), *(None for _ in unlabelled))
        targets = manifest.targets(self.labels)
        self.targets = np.concatenate([targets, targets[originals], np.full(len(unlabelled), UNLABELLED)])
        self.unlabelled = self._n + len(originals) + np.arange(len(unlabelled))

    def copies_of(self, rows: Rows) -> Rows:
        """Return the rows of the copies of the clips `rows`."""
        return self._n + np.flatnonzero(np.isin(self._originals, rows))

    def parted(self, logits: Logits, train: Rows, temperature: float = 1.0) -> TeacherOutputs:
        """Return logits `(n_all, n_emotions)` as they are given on.

        Raises:
            WorkFailed: a training clip, a copy of one, or an unlabelled clip has none.
        """
        require_labelled(logits[np.concatenate([train, self.copies_of(train), self.unlabelled])])
        clips, copies, unlabelled = np.split(
            logits / np.float32(temperature), [self._n, self._n + len(self._originals)]
        )
        return TeacherOutputs(clips, copies, unlabelled, temperature)


class FoldTeachers:
    """Labels the training clips of a split, and of its rotations, with teachers of one recipe, trained for it.

    Where the recipe distils, it is an assistant's, and `own` says what its teacher says: it is asked of each fold's
    training clips anew, so that nobody in the chain has heard whom the fold is to label.
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
        *,
        title: str = "",
        own: Callable[..., Teaching] | None = None,
    ) -> None:
        # Copies are made of a split's training clips, fold teachers train on dev speakers too: they go without, and the
        # key of their outputs says so. Nor are an assistant's given hints or unlabelled speech.
        self._settings = settings | PLAIN
        self._split, self._stop_after = split, stop_after
        self._digest, self._title, self._their_teacher = teacher_digest, title, own
        self._where, self._counting = where, counting
        self._speaker = split.manifest.column("speaker")
        self._pool = np.sort(np.concatenate([split.train, split.dev]))  # test clips are nobody's to learn from
        self._groups = groups or [split.speakers("dev"), *training_groups(split)]
        self.trained = 0

    def outputs(
        self, split: Split, mode: str, copies: CopiedClips = NO_COPIES, unlabelled: Digests = ()
    ) -> TeacherOutputs:
        """Return calibrated logits of the training clips of `split`, of their copies, and of unlabelled clips.

        No fold teacher has heard an unlabelled clip: of it all say something, and the mean counts. Calibration is by
        the out-of-fold logits, in each mode: those of clips that a teacher has heard are too sure.

        Raises:
            CorpusError: the dev speakers of `split` are none of the groups, so its teachers would have heard them.
        """
        dev = split.speakers("dev")
        if dev not in self._groups:
            raise CorpusError(f"no teacher was kept from the dev speakers {', '.join(dev)}")
        if len(self._groups) < 3:
            raise CorpusError(
                "no teacher can label these training clips: it is kept from dev and from whom it labels, and there are "
                f"{len(self._groups)} groups of speakers; take fewer folds, more speakers, or distill.alpha 0"
            )
        clips, folds = _Clips(split, copies, unlabelled), [group for group in self._groups if group != dev]
        wanted = {fold: self._wanted(clips, split, dev, fold, mode) for fold in folds}
        said = self._said(clips, dev, wanted)
        held_out = [
            {digest: values for digest, values in said[fold].items() if digest in self._own(clips, fold)}
            for fold in folds
        ]
        n_emotions = len(clips.labels)
        out_of_fold = assemble(held_out, clips.hashes, n_emotions)
        temperature = fit_temperature(out_of_fold[split.train], clips.targets[split.train], SUREST)
        mean = averaged(list(said.values()), clips.hashes, n_emotions)
        if mode == ENSEMBLE:
            return clips.parted(mean, split.train, temperature)
        out_of_fold[clips.unlabelled] = mean[clips.unlabelled]
        return clips.parted(out_of_fold, split.train, temperature)

    def _rows(self, *groups: Groups) -> Rows:
        speakers = [speaker for group in groups for speaker in group]
        return self._pool[np.isin(self._speaker[self._pool], speakers)]

    def _kept(self, first: Groups, second: Groups) -> Rows:
        return self._rows(*(group for group in self._groups if group not in (first, second)))

    def _wanted(self, clips: _Clips, split: Split, dev: Groups, fold: Groups, mode: str) -> Rows:
        """Return the rows that the teacher without `dev` and `fold` is to label: also dev's, which it serves next."""
        if mode == ENSEMBLE:
            return np.concatenate([split.train, clips.copies_of(split.train), clips.unlabelled])
        return np.concatenate([self._rows(dev, fold), clips.copies_of(self._rows(fold)), clips.unlabelled])

    def _own(self, clips: _Clips, fold: Groups) -> set[str]:
        rows = self._rows(fold)
        return {clips.hashes[row] for row in (*rows, *clips.copies_of(rows))}

    def _said(self, clips: _Clips, dev: Groups, wanted: dict[Groups, Rows]) -> dict[Groups, dict[str, Logits]]:
        """Return logits by digest of what each fold's teacher is to label; those that are missing are trained."""
        keys = {fold: self._key(clips, dev, fold, rows) for fold, rows in wanted.items()}
        missing = [fold for fold in wanted if read_outputs(keys[fold]) is None]
        if missing:
            jobs = [self._job(clips, dev, fold, wanted[fold]) for fold in missing]
            with self._counting("fold teachers label clips they have not heard") as progress:
                fits = fit_all(jobs, self._where, progress)
            for fold, done in zip(missing, fits, strict=True):
                digests = [clips.hashes[row] for row in wanted[fold]]
                write_outputs(keys[fold], digests, done.label_logits, self._title)
            self.trained += len(missing)
        found = {fold: read_outputs(key) for fold, key in keys.items()}
        return {fold: outputs for fold, outputs in found.items() if outputs is not None}

    def _key(self, clips: _Clips, dev: Groups, fold: Groups, rows: Rows) -> OutputsKey:
        return OutputsKey(
            kind=FOLD,
            teacher_digest=self._digest,
            settings=self._settings,
            trained_on=tuple(sorted(clips.hashes[row] for row in self._kept(dev, fold))),
            labels_clips=tuple(sorted(clips.hashes[row] for row in rows)),
            stop_after=self._stop_after,
            labels=clips.labels,
        )

    def _job(self, clips: _Clips, dev: Groups, fold: Groups, rows: Rows) -> FitJob:
        task = Task(
            clips.hashes,
            clips.targets,
            clips.labels,
            self._kept(dev, fold),
            None,
            clips.speakers,
            self._taught(dev, fold),
            languages=clips.languages,
        )
        return FitJob(self._settings, task, label=rows, stop_after=self._stop_after)

    def _taught(self, dev: Groups, fold: Groups) -> dict[str, TeacherOutputs]:
        """Return what the fold teacher without `dev` and `fold` learns from its own teacher, nothing where it has none.

        Its task has copies behind the clips, which it is not trained on: rows for them are of no teacher.
        """
        if self._their_teacher is None:
            return {}
        kept = self._kept(dev, fold)
        inner = replace(self._split, train=kept, dev=np.empty(0, dtype=np.int64))
        groups = [(), *(group for group in self._groups if group not in (dev, fold))]
        if len(groups) < 3:
            raise UserError(
                f"{self._title or 'the assistant'} cannot teach here: its own teacher must be kept from one more group "
                "of speakers, and there are too few; take more training speakers, or its own teacher"
            )
        # Not the registered one itself, which has heard whom the fold is to label.
        mode = ENSEMBLE if self._settings["distill.outputs"] == ENSEMBLE else OUT_OF_FOLD
        return self._their_teacher(split=inner, groups=groups).outputs(inner, [mode])
