"""What the trials of a study train on: clips, copies of them, and what a teacher says to both."""

from collections.abc import Sequence
from functools import cached_property

from ser_platform.corpora.splits.split import Split
from ser_platform.distillation.outputs import TeacherOutputs
from ser_platform.features.augmented_clips import NO_AUGMENTED_CLIPS, AugmentedClips, prepare_augmented_clips
from ser_platform.features.dataset import Dataset
from ser_platform.settings import Settings
from ser_platform.tuning.execution.cluster import Cluster
from ser_platform.tuning.execution.cross_validation import split_into_folds
from ser_platform.tuning.execution.fit_job import TrialData
from ser_platform.tuning.execution.fit_pool import ShowProgress
from ser_platform.tuning.execution.remote_extraction import choose_mapper
from ser_platform.tuning.search_space.requirements import (
    find_unlabelled_name,
    list_copy_recipes,
    list_input_families,
    list_output_modes,
    may_use_hints,
)
from ser_platform.tuning.search_space.space import Space
from ser_platform.tuning.teacher_labels.fold_teachers import SpeakerGroup, TeacherLabeller
from ser_platform.tuning.teacher_labels.teacher import Teacher
from ser_platform.tuning.teacher_labels.unlabelled_pool import UnlabelledPool, prepare_unlabelled


class TrialDataBuilder:
    """Makes the tasks of one space on one corpus; what they need is prepared when it is first asked for."""

    def __init__(
        self, space: Space, corpus: Dataset, teacher: Teacher | None, cluster: Cluster, show_progress: ShowProgress
    ) -> None:
        self._space, self._corpus, self._teacher = space, corpus, teacher
        self._cluster, self._show_progress = cluster, show_progress

    def build_for_trials(self) -> list[TrialData]:
        """Return what a trial trains on: one task, or one a fold."""
        settings, n_folds = self._pick_distilled_settings(), self._space.fixed_settings.data.folds
        if not n_folds:
            return [self.build(self._corpus.split, settings)]
        splits = split_into_folds(self._corpus.split, n_folds)
        groups = [split.speakers("dev") for split in splits]
        labeller = self._make_labeller(self._corpus.split, groups) if settings.distill.alpha > 0 else None
        return [self.build(split, settings, labeller) for split in splits]

    def build(
        self, split: Split, settings: Settings, labeller: TeacherLabeller | None = None, modes: tuple[str, ...] = ()
    ) -> TrialData:
        """Return the task of training on `split`, with teacher outputs where the settings ask for them.

        `labeller` is of the split, or of what it is a rotation of; None is that of the corpus' own split. `modes` are
        the teacher outputs that the task is to hold; without, all that a trial can ask for.
        """
        copies, pool = self._prepare_copies(split), self.unlabelled
        digests = () if pool is None else pool.hashes
        teacher: dict[str, TeacherOutputs] = {}
        hints = None
        if settings.distill.alpha > 0:
            labeller = labeller or self._split_labeller
            teacher = labeller.label_split(split, modes or list_output_modes(self._space), copies, digests)
            hints = labeller.compute_hints(split, copies, digests) if may_use_hints(self._space) else None
        return TrialData.from_split(split, self._corpus.labels, teacher, copies, hints=hints, unlabelled_hashes=digests)

    def build_for_other_split(self, split: Split, settings: Settings) -> TrialData:
        """Return the task of training on a split that is no rotation of the corpus' own."""
        labeller = self._make_labeller(split, None) if settings.distill.alpha > 0 else None
        return self.build(split, settings, labeller, (settings.distill.outputs,))

    def refuse_teacher_leak(self, splits: Sequence[Split]) -> None:
        """Refuse splits of which the registered teacher has heard dev or test, where a trial may ask it itself.

        Raises:
            LineageLeak: it has; names the clips.
        """
        self._split_labeller.refuse_teacher_leak(splits, list_output_modes(self._space))

    @cached_property
    def unlabelled(self) -> UnlabelledPool | None:
        """The speech without labels that a trial may ask for.

        Raises:
            LineageLeak: it holds clips of the corpus, or others of its speakers.
        """
        name = find_unlabelled_name(self._space)
        if not name or self._teacher is None:
            return None
        feature_needs = [
            (list_input_families([self._space]), self._space.fixed_settings.features.dtype),
            *self._teacher.feature_needs,
        ]
        return prepare_unlabelled(name, feature_needs, [self._corpus.split], self._show_progress)

    def _pick_distilled_settings(self) -> Settings:
        """Return settings that ask for teacher outputs when any trial of the space can."""
        axis = next((axis for axis in self._space.axes if axis.name == "distill.alpha"), None)
        fixed = self._space.fixed_settings
        return fixed if axis is None else fixed.with_overrides({axis.name: max(axis.values)})

    def _prepare_copies(self, split: Split) -> AugmentedClips:
        """Return every copy of the training clips that a trial of the space can ask for; made when first needed."""
        wanted = list_copy_recipes(self._space)
        if not wanted:
            return NO_AUGMENTED_CLIPS
        copies = self._make_copies(
            split, wanted, list_input_families([self._space]), self._space.fixed_settings.features.dtype
        )
        if self._teacher is not None:
            described = self._teacher.description
            self._make_copies(split, wanted, described.view.required_families, described.settings.features.dtype)
        return copies

    def _make_copies(
        self, split: Split, wanted: Sequence[tuple[str, int]], names: Sequence[str], dtype: str
    ) -> AugmentedClips:
        with self._show_progress("copies of training clips made") as progress:
            return prepare_augmented_clips(split, wanted, names, progress, mapper=choose_mapper(), dtype=dtype)

    @cached_property
    def _split_labeller(self) -> TeacherLabeller:
        return self._make_labeller(self._corpus.split, None)

    def _make_labeller(self, split: Split, groups: list[SpeakerGroup] | None) -> TeacherLabeller:
        assert self._teacher is not None, "a space that distils is not run without a teacher"
        return TeacherLabeller(self._teacher, split, self._cluster, self._show_progress, groups)
