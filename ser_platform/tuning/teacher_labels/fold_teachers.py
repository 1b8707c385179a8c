"""Calibrated outputs of a teacher for the training clips of a split and their copies, computed once and stored.

Out of fold, a training clip is labelled by a fold teacher that is trained neither on its speaker nor on dev. Speakers
are divided into groups, of which the dev speakers are one. The fold teacher trained without groups a and b labels a
when b is dev, and b when a is dev: splits with rotated dev speakers share fold teachers.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.lineage import refuse_leak
from ser_platform.corpora.splits.split import Split, group_training_speakers
from ser_platform.distillation.hint_targets import compute_encoder_embeddings, require_hint_teacher
from ser_platform.distillation.outputs import (
    ENSEMBLE,
    FOLD,
    IN_SAMPLE,
    OUT_OF_FOLD,
    REGISTERED,
    OutputsKey,
    TeacherOutputs,
    average_outputs,
    merge_fold_outputs,
    read_outputs,
    require_labelled,
    write_outputs,
)
from ser_platform.errors import CorpusError, UserError
from ser_platform.evaluation.scoring import compute_stored_logits
from ser_platform.features.augmented_clips import NO_AUGMENTED_CLIPS, AugmentedClips
from ser_platform.features.views.normaliser import SPEAKER_NORMALISATION
from ser_platform.settings import Overrides, Settings
from ser_platform.training.calibration import fit_temperature
from ser_platform.training.hint_loss import NO_HINT
from ser_platform.tuning.execution.cluster import Cluster
from ser_platform.tuning.execution.fit_job import UNKNOWN_SPEAKER, UNLABELLED_TARGET, FitJob, FitResult, TrialData
from ser_platform.tuning.execution.fit_pool import ShowProgress, fit_all
from ser_platform.tuning.teacher_labels.teacher import Teacher

SpeakerGroup = tuple[str, ...]
RowIndices = NDArray[np.int64]
Logits = NDArray[np.float32]
Digests = tuple[str, ...]
PLAIN_OVERRIDES: Overrides = {"augment.copies": 0, "distill.hint": NO_HINT, "distill.unlabelled": ""}
MIN_TEMPERATURE = 0.01  # for ridge classifiers, whose logits are within [-1, 1]


@dataclass(frozen=True)
class FoldFit:
    """A fold teacher to be trained.

    Attributes:
        key: of the outputs to store.
        digests: of the clips that it labels, the job's `label_rows`.
        title: of the registered teacher.
    """

    key: OutputsKey
    digests: list[str]
    job: FitJob
    title: str


def train_fold_teachers(missing: Iterable[FoldFit], cluster: Cluster, show_progress: ShowProgress) -> None:
    """Train fold teachers side by side and store their outputs; those trained on the same clips are one training."""
    same: dict[tuple[Digests, Digests], list[FoldFit]] = {}
    for each in missing:
        same.setdefault((each.key.trained_on, each.job.data.hashes), []).append(each)
    if not same:
        return
    rows = [np.unique(np.concatenate([each.job.label_rows for each in group])) for group in same.values()]
    jobs = [replace(group[0].job, label_rows=union) for group, union in zip(same.values(), rows, strict=True)]
    groups = list(same.values())

    def store(number: int, fit: FitResult) -> None:
        for each in groups[number]:
            logits = fit.label_logits[np.searchsorted(rows[number], each.job.label_rows)]
            write_outputs(each.key, each.digests, logits, each.title)

    with show_progress("fold teachers trained, to label the other speakers") as progress:
        fit_all(jobs, cluster, progress, store)


class TeacherLabeller:
    """Computes the outputs of one registered teacher for a split and its rotations, in each mode of `distill.outputs`.

    `groups` divide the training and dev speakers; None makes dev one group and divides the training speakers.
    """

    def __init__(
        self,
        teacher: Teacher,
        split: Split,
        cluster: Cluster,
        show_progress: ShowProgress,
        groups: list[SpeakerGroup] | None = None,
    ) -> None:
        self._teacher, self._show_progress = teacher, show_progress
        make_own_labeller = None
        if teacher.own_teacher is not None and teacher.description.settings.distill.alpha > 0:
            make_own_labeller = partial(
                TeacherLabeller, teacher.own_teacher, cluster=cluster, show_progress=show_progress
            )
        self._fold_teachers = FoldTeachers(
            split,
            teacher.description.settings,
            teacher.n_epochs,
            teacher.digest,
            cluster,
            show_progress,
            groups,
            title=teacher.title,
            make_own_labeller=make_own_labeller,
        )

    def label_split(
        self, split: Split, modes: Iterable[str], copies: AugmentedClips = NO_AUGMENTED_CLIPS, unlabelled: Digests = ()
    ) -> dict[str, TeacherOutputs]:
        """Return the teacher's outputs in each of `modes`.

        Raises:
            UserError: the teacher normalises by speaker, and the speakers of unlabelled clips are unknown.
            CorpusError: the dev speakers of `split` are not a group, so a fold teacher would be trained on them.
            LineageLeak: mode `in_sample`, and the registered teacher was trained on dev or test speakers.
        """
        if unlabelled and self._teacher.description.settings.features.normalise == SPEAKER_NORMALISATION:
            raise UserError(
                f"distill.unlabelled: the speakers of unlabelled clips are unknown, and teacher {self._teacher.title} "
                "needs them (features.normalise speaker); give a teacher with features.normalise global or utterance"
            )
        return {
            mode: self._label_in_sample(split, copies, unlabelled)
            if mode == IN_SAMPLE
            else self._fold_teachers.label_split(split, mode, copies, unlabelled)
            for mode in modes
        }

    def list_missing(
        self, split: Split, modes: Iterable[str], copies: AugmentedClips = NO_AUGMENTED_CLIPS, unlabelled: Digests = ()
    ) -> list[FoldFit]:
        """Return the fold teachers that `label_split` needs and that have no stored outputs."""
        return [
            fit
            for mode in modes
            if mode != IN_SAMPLE
            for fit in self._fold_teachers.list_missing(split, mode, copies, unlabelled)
        ]

    def compute_hints(
        self, split: Split, copies: AugmentedClips = NO_AUGMENTED_CLIPS, unlabelled: Digests = ()
    ) -> NDArray[np.float32]:
        """Return embeddings `(n_all, width)` of the clips of a split's manifest, their copies and unlabelled clips.

        Raises:
            UserError: the teacher has no encoder.
        """
        settings = self._teacher.description.settings
        require_hint_teacher(settings, self._teacher.title)
        return compute_encoder_embeddings(settings, _StackedClips(split, copies, unlabelled).hashes)

    def refuse_teacher_leak(self, splits: Iterable[Split], modes: Collection[str]) -> None:
        """Raise LineageLeak if the registered teacher labels clips itself and was trained on dev or test clips."""
        for split in splits if IN_SAMPLE in modes else ():
            title = f"distill.outputs {IN_SAMPLE}: teacher {self._teacher.title}"
            refuse_leak(self._teacher.description.lineage, split, title, parts=("dev", "test"))

    def _label_in_sample(self, split: Split, copies: AugmentedClips, unlabelled: Digests) -> TeacherOutputs:
        """Return the outputs of the registered teacher, with the calibration of its bundle."""
        self.refuse_teacher_leak([split], [IN_SAMPLE])
        description, clips = self._teacher.description, _StackedClips(split, copies, unlabelled)
        rows = np.concatenate([split.train, clips.find_copies(split.train), clips.unlabelled_rows])
        digests = [clips.hashes[row] for row in rows]
        key = OutputsKey(
            kind=REGISTERED,
            teacher_digest=self._teacher.digest,
            settings=description.settings,
            trained_on=(),
            labels_clips=tuple(sorted(digests)),
            stop_after=self._teacher.n_epochs,
            labels=description.labels,
        )
        if (found := read_outputs(key)) is None:
            with self._show_progress("training clips labelled by the registered teacher") as progress:
                progress(0, 1)
                bundle = self._teacher.load_bundle()
                logits = compute_stored_logits(bundle, clips.hashes, clips.speakers, rows) / bundle.temperature
                write_outputs(key, digests, logits.astype(np.float32), self._teacher.title)
                progress(1, 1)
            found = read_outputs(key)
        assert found is not None
        return clips.split_outputs(merge_fold_outputs([found], clips.hashes, len(clips.labels)), split.train)


class _StackedClips:
    """The rows of a manifest's clips, then of their copies, then of unlabelled clips."""

    def __init__(self, split: Split, copies: AugmentedClips, unlabelled: Digests = ()) -> None:
        manifest, originals = split.manifest, copies.original_rows
        speakers, languages = tuple(manifest.column("speaker")), tuple(manifest.column("language"))
        self.labels = manifest.labels
        self._n, self._originals = len(manifest), originals
        self.hashes: tuple[str, ...] = (*manifest.column("audio_sha256"), *copies.hashes, *unlabelled)
        self.speakers: tuple[str, ...] = (
            *speakers,
            *(speakers[row] for row in originals),
            *(UNKNOWN_SPEAKER for _ in unlabelled),
        )
        self.languages = (*languages, *(languages[row] for row in originals), *(None for _ in unlabelled))
        targets = manifest.encode_targets(self.labels)
        self.targets = np.concatenate([targets, targets[originals], np.full(len(unlabelled), UNLABELLED_TARGET)])
        self.unlabelled_rows = self._n + len(originals) + np.arange(len(unlabelled))

    def find_copies(self, rows: RowIndices) -> RowIndices:
        """Return the rows of the copies of the clips `rows`."""
        return self._n + np.flatnonzero(np.isin(self._originals, rows))

    def split_outputs(self, logits: Logits, train: RowIndices, temperature: float = 1.0) -> TeacherOutputs:
        """Return logits `(n_all, n_emotions)` divided by `temperature` as `TeacherOutputs`.

        Raises:
            WorkFailed: a training clip, a copy of one, or an unlabelled clip has no logits.
        """
        require_labelled(logits[np.concatenate([train, self.find_copies(train), self.unlabelled_rows])])
        clips, copies, unlabelled = np.split(
            logits / np.float32(temperature), [self._n, self._n + len(self._originals)]
        )
        return TeacherOutputs(clips, copies, unlabelled, temperature)


class FoldTeachers:
    """Trains fold teachers with one recipe and labels the training clips of a split and its rotations with them.

    The recipe of an assistant distils itself; `make_own_labeller` makes the labeller of its own teacher. That labels
    the training clips of each fold anew, so that no teacher in the chain is trained on the speakers to be labelled.
    """

    def __init__(
        self,
        split: Split,
        settings: Settings,
        stop_after: int,
        teacher_digest: str,
        cluster: Cluster,
        show_progress: ShowProgress,
        groups: list[SpeakerGroup] | None = None,
        *,
        title: str = "",
        make_own_labeller: Callable[..., TeacherLabeller] | None = None,
    ) -> None:
        # Copies exist only of a split's training clips, but fold teachers are also trained on dev speakers: they are
        # trained without copies, which is part of their outputs' key. Assistants get no hints and no unlabelled speech.
        self._settings = settings.with_overrides(PLAIN_OVERRIDES)
        self._split, self._stop_after = split, stop_after
        self._digest, self._title, self._make_own_labeller = teacher_digest, title, make_own_labeller
        self._cluster, self._show_progress = cluster, show_progress
        self._speakers = split.manifest.column("speaker")
        self._pool = np.sort(np.concatenate([split.train, split.dev]))  # no fold teacher is trained on test clips
        self._groups = groups or [split.speakers("dev"), *group_training_speakers(split)]

    def label_split(
        self, split: Split, mode: str, copies: AugmentedClips = NO_AUGMENTED_CLIPS, unlabelled: Digests = ()
    ) -> TeacherOutputs:
        """Return calibrated logits of the training clips of `split`, of their copies, and of unlabelled clips.

        Unlabelled clips get the mean over all fold teachers. The temperature is always fitted to the out-of-fold
        logits: those of clips that a teacher was trained on are overconfident.

        Raises:
            CorpusError: the dev speakers of `split` are not a group, or there are fewer than three groups.
        """
        train_fold_teachers(self.list_missing(split, mode, copies, unlabelled), self._cluster, self._show_progress)
        dev, clips = self._find_dev_group(split), _StackedClips(split, copies, unlabelled)
        found = {fold: read_outputs(key) for fold, (key, _) in self._make_keys(clips, split, dev, mode).items()}
        labelled = {fold: outputs for fold, outputs in found.items() if outputs is not None}
        folds = list(labelled)
        held_out = [
            {digest: values for digest, values in labelled[fold].items() if digest in self._fold_digests(clips, fold)}
            for fold in folds
        ]
        n_emotions = len(clips.labels)
        out_of_fold = merge_fold_outputs(held_out, clips.hashes, n_emotions)
        temperature = fit_temperature(out_of_fold[split.train], clips.targets[split.train], MIN_TEMPERATURE)
        mean = average_outputs(list(labelled.values()), clips.hashes, n_emotions)
        if mode == ENSEMBLE:
            return clips.split_outputs(mean, split.train, temperature)
        out_of_fold[clips.unlabelled_rows] = mean[clips.unlabelled_rows]
        return clips.split_outputs(out_of_fold, split.train, temperature)

    def list_missing(
        self, split: Split, mode: str, copies: AugmentedClips = NO_AUGMENTED_CLIPS, unlabelled: Digests = ()
    ) -> list[FoldFit]:
        """Return the fold teachers that `label_split` needs and that have no stored outputs.

        Raises:
            CorpusError: the dev speakers of `split` are not a group, or there are fewer than three groups.
        """
        dev, clips = self._find_dev_group(split), _StackedClips(split, copies, unlabelled)
        return [
            FoldFit(key, [clips.hashes[row] for row in rows], self._make_job(clips, dev, fold, rows), self._title)
            for fold, (key, rows) in self._make_keys(clips, split, dev, mode).items()
            if read_outputs(key) is None
        ]

    def _find_dev_group(self, split: Split) -> SpeakerGroup:
        dev = split.speakers("dev")
        if dev not in self._groups:
            raise CorpusError(f"the dev speakers {', '.join(dev)} are no group: fold teachers would be trained on them")
        if len(self._groups) < 3:
            raise CorpusError(
                "these training clips cannot be labelled: a fold teacher is trained without dev and without the "
                f"speakers that it labels, and there are {len(self._groups)} groups of speakers; give fewer folds, "
                "more speakers, or distill.alpha 0"
            )
        return dev

    def _make_keys(
        self, clips: _StackedClips, split: Split, dev: SpeakerGroup, mode: str
    ) -> dict[SpeakerGroup, tuple[OutputsKey, RowIndices]]:
        """Return the key of each fold teacher's outputs, and the rows that it labels, by group."""
        rows_to_label = {
            fold: self._find_rows_to_label(clips, split, dev, fold, mode) for fold in self._groups if fold != dev
        }
        return {fold: (self._make_key(clips, dev, fold, rows), rows) for fold, rows in rows_to_label.items()}

    def _find_rows(self, *groups: SpeakerGroup) -> RowIndices:
        speakers = [speaker for group in groups for speaker in group]
        return self._pool[np.isin(self._speakers[self._pool], speakers)]

    def _find_training_rows(self, first: SpeakerGroup, second: SpeakerGroup) -> RowIndices:
        return self._find_rows(*(group for group in self._groups if group not in (first, second)))

    def _find_rows_to_label(
        self, clips: _StackedClips, split: Split, dev: SpeakerGroup, fold: SpeakerGroup, mode: str
    ) -> RowIndices:
        """Return the rows that the teacher without `dev` and `fold` labels: also dev's, for when `fold` is dev."""
        if mode == ENSEMBLE:
            return np.concatenate([split.train, clips.find_copies(split.train), clips.unlabelled_rows])
        return np.concatenate(
            [self._find_rows(dev, fold), clips.find_copies(self._find_rows(fold)), clips.unlabelled_rows]
        )

    def _fold_digests(self, clips: _StackedClips, fold: SpeakerGroup) -> set[str]:
        rows = self._find_rows(fold)
        return {clips.hashes[row] for row in (*rows, *clips.find_copies(rows))}

    def _make_key(self, clips: _StackedClips, dev: SpeakerGroup, fold: SpeakerGroup, rows: RowIndices) -> OutputsKey:
        return OutputsKey(
            kind=FOLD,
            teacher_digest=self._digest,
            settings=self._settings,
            trained_on=tuple(sorted(clips.hashes[row] for row in self._find_training_rows(dev, fold))),
            labels_clips=tuple(sorted(clips.hashes[row] for row in rows)),
            stop_after=self._stop_after,
            labels=clips.labels,
        )

    def _make_job(self, clips: _StackedClips, dev: SpeakerGroup, fold: SpeakerGroup, rows: RowIndices) -> FitJob:
        data = TrialData(
            hashes=clips.hashes,
            targets=clips.targets,
            labels=clips.labels,
            train=self._find_training_rows(dev, fold),
            dev=None,
            speakers=clips.speakers,
            teacher_outputs=self._label_for_fold_teacher(dev, fold),
            languages=clips.languages,
        )
        return FitJob(self._settings, data, label_rows=rows, stop_after=self._stop_after)

    def _label_for_fold_teacher(self, dev: SpeakerGroup, fold: SpeakerGroup) -> dict[str, TeacherOutputs]:
        """Return the outputs of its own teacher for the fold teacher without `dev` and `fold`, {} if it has none.

        The rows of copies get no outputs: fold teachers are not trained on them.
        """
        if self._make_own_labeller is None:
            return {}
        kept = self._find_training_rows(dev, fold)
        inner = replace(self._split, train=kept, dev=np.empty(0, dtype=np.int64))
        groups = [(), *(group for group in self._groups if group not in (dev, fold))]
        if len(groups) < 3:
            raise UserError(
                f"assistant {self._title} cannot be used as teacher: its own teacher is trained without one more group "
                "of speakers, and there are too few; give more training speakers, or its own teacher as --teacher"
            )
        # Not in sample: the registered own teacher was trained on the speakers that the fold teacher labels.
        mode = ENSEMBLE if self._settings.distill.outputs == ENSEMBLE else OUT_OF_FOLD
        return self._make_own_labeller(split=inner, groups=groups).label_split(inner, [mode])
