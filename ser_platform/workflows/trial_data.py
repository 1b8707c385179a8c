"""What the trials of a study train on: clips, copies of them, and what a teacher says to both."""

from collections.abc import Sequence
from functools import cached_property

from ser_platform.corpora.splits.split import Split
from ser_platform.distillation.outputs import TeacherOutputs
from ser_platform.features.augmented_clips import NO_COPIES, CopiedClips, prepare_copies
from ser_platform.features.dataset import Dataset
from ser_platform.settings import Settings, resolve
from ser_platform.tuning.execution.cluster import Cluster
from ser_platform.tuning.execution.cross_validation import fold_splits
from ser_platform.tuning.execution.fit_job import Task
from ser_platform.tuning.execution.fit_pool import Counting
from ser_platform.tuning.execution.remote_extraction import mapper
from ser_platform.tuning.search_space.requirements import (
    copies_of,
    has_hints,
    heard_families,
    outputs_of,
    unlabelled_of,
)
from ser_platform.tuning.search_space.space import Space
from ser_platform.tuning.teacher_labels.fold_teachers import Groups, Teaching
from ser_platform.tuning.teacher_labels.teacher import Teacher
from ser_platform.tuning.teacher_labels.unlabelled_pool import Unlabelled, prepare_unlabelled


class StudyTasks:
    """Makes the tasks of one space on one corpus; what they need is prepared when it is first asked for."""

    def __init__(
        self, space: Space, corpus: Dataset, teacher: Teacher | None, where: Cluster, counting: Counting
    ) -> None:
        self._space, self._corpus, self._teacher = space, corpus, teacher
        self._where, self._counting = where, counting

    def of_trials(self) -> list[Task]:
        """Return what a trial trains on: one task, or one a fold."""
        settings, n_folds = self._any_settings(), self._space.fixed("data.folds")
        if not n_folds:
            return [self.of(self._corpus.split, settings)]
        splits = fold_splits(self._corpus.split, n_folds)
        groups = [split.speakers("dev") for split in splits]
        teaching = self._taught(self._corpus.split, groups) if settings["distill.alpha"] > 0 else None
        return [self.of(split, settings, teaching) for split in splits]

    def of(
        self, split: Split, settings: Settings, teaching: Teaching | None = None, modes: tuple[str, ...] = ()
    ) -> Task:
        """Return the task of training on `split`, with teacher outputs where the settings ask for them.

        `teaching` is of the split, or of what it is a rotation of; None is that of the corpus' own split. `modes` are
        the teacher outputs that the task is to hold; without, all that a trial can ask for.
        """
        manifest, labels, copies, more = split.manifest, self._corpus.labels, self._copies(split), self.unlabelled
        digests = () if more is None else more.hashes
        teacher: dict[str, TeacherOutputs] = {}
        hints = None
        if settings["distill.alpha"] > 0:
            teaching = teaching or self._teaching
            teacher = teaching.outputs(split, modes or outputs_of(self._space), copies, digests)
            hints = teaching.hints(split, copies, digests) if has_hints(self._space) else None
        return Task(
            tuple(manifest.column("audio_sha256")),
            manifest.targets(labels),
            labels,
            split.train,
            split.dev,
            tuple(manifest.column("speaker")),
            teacher,
            copies,
            tuple(manifest.column("language")),
            hints=hints,
            unlabelled=digests,
        )

    def of_another(self, split: Split, settings: Settings) -> Task:
        """Return the task of training on a split that is no rotation of the corpus' own."""
        teaching = self._taught(split, None) if settings["distill.alpha"] > 0 else None
        return self.of(split, settings, teaching, (settings["distill.outputs"],))

    def refuse_heard(self, splits: Sequence[Split]) -> None:
        """Refuse splits of which the registered teacher has heard dev or test, where a trial may ask it itself.

        Raises:
            LineageLeak: it has; names the clips.
        """
        self._teaching.refuse_heard(splits, outputs_of(self._space))

    @cached_property
    def unlabelled(self) -> Unlabelled | None:
        """The speech without labels that a trial may ask for.

        Raises:
            LineageLeak: it holds clips of the corpus, or others of its speakers.
        """
        name = unlabelled_of(self._space)
        if not name or self._teacher is None:
            return None
        needs = [(heard_families([self._space]), self._space.fixed("features.dtype")), *self._teacher.hears]
        with self._counting(f"{name}: files decoded") as progress:
            found = prepare_unlabelled(name, needs, progress, mapper())
        found.refuse_overlap(self._corpus.split)
        return found

    def _any_settings(self) -> Settings:
        """Return settings that ask for teacher outputs when any trial of the space can."""
        axis = next((axis for axis in self._space.axes if axis.name == "distill.alpha"), None)
        settings = resolve(self._space.base)
        return settings if axis is None else settings | {"distill.alpha": max(axis.values)}

    def _copies(self, split: Split) -> CopiedClips:
        """Return every copy of the training clips that a trial of the space can ask for; made when first needed."""
        wanted = copies_of(self._space)
        if not wanted:
            return NO_COPIES
        copies = self._made(split, wanted, heard_families([self._space]), self._space.fixed("features.dtype"))
        if self._teacher is not None:
            described = self._teacher.described
            self._made(split, wanted, described.view.needs, described.settings["features.dtype"])
        return copies

    def _made(self, split: Split, wanted: Sequence[tuple[str, int]], names: Sequence[str], dtype: str) -> CopiedClips:
        with self._counting("copies of training clips made") as progress:
            return prepare_copies(split, wanted, names, progress, mapper=mapper(), dtype=dtype)

    @cached_property
    def _teaching(self) -> Teaching:
        return self._taught(self._corpus.split, None)

    def _taught(self, split: Split, groups: list[Groups] | None) -> Teaching:
        assert self._teacher is not None, "a space that distils is not run without a teacher"
        return Teaching(self._teacher, split, self._where, self._counting, groups)
