"""The training data of trials: clips, augmented copies of them, and the teacher's outputs for both."""

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
from ser_platform.tuning.teacher_labels.fold_teachers import (
    FoldFit,
    SpeakerGroup,
    TeacherLabeller,
    train_fold_teachers,
)
from ser_platform.tuning.teacher_labels.teacher import Teacher
from ser_platform.tuning.teacher_labels.unlabelled_pool import FeatureNeed, UnlabelledPool, prepare_unlabelled

SpeakerGroups = list[SpeakerGroup] | None


def prepare_copies(
    split: Split, recipes: Sequence[tuple[str, int]], needs: Sequence[FeatureNeed], show_progress: ShowProgress
) -> AugmentedClips:
    """Return augmented copies of the training clips, with the first of `needs`; the features of all needs are stored.

    `recipes` are pairs of a recipe and its number of copies.
    """
    made = []
    for names, dtype in needs:
        with show_progress("copies of training clips made") as progress:
            made.append(prepare_augmented_clips(split, recipes, names, progress, mapper=choose_mapper(), dtype=dtype))
    return made[0]


class TrialDataBuilder:
    """Builds the training data of one space on one corpus; features and outputs are computed at their first use."""

    def __init__(
        self, space: Space, corpus: Dataset, teacher: Teacher | None, cluster: Cluster, show_progress: ShowProgress
    ) -> None:
        self._space, self._corpus, self._teacher = space, corpus, teacher
        self._cluster, self._show_progress = cluster, show_progress

    def build_for_trials(self) -> list[TrialData]:
        """Return the training data of a trial: one item, or one for each fold."""
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
        """Return the data for training on `split`, with teacher outputs where the settings use them.

        Args:
            split: the split to train on.
            settings: decide whether teacher outputs are needed.
            labeller: of the split, or of the split that it is a rotation of; None is the one of the corpus' own split.
            modes: the kinds of teacher outputs to include; () is all kinds that a trial of the space can use.
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

    def train_fold_teachers(self, splits: Sequence[Split]) -> None:
        """Train the fold teachers that `build` needs for rotations of the corpus' own split, all side by side."""
        digests = () if self.unlabelled is None else self.unlabelled.hashes
        modes = list_output_modes(self._space)
        missing = [
            fit
            for split in splits
            for fit in self._split_labeller.list_missing(split, modes, self._prepare_copies(split), digests)
        ]
        train_fold_teachers(missing, self._cluster, self._show_progress)

    def build_for_other_split(self, split: Split, settings: Settings, groups: SpeakerGroups = None) -> TrialData:
        """Return the data for training on a split that is not a rotation of the corpus' own split.

        `groups` divide its training and dev speakers, for fold teachers; None divides the training speakers.
        """
        labeller = self._make_labeller(split, groups) if settings.distill.alpha > 0 else None
        return self.build(split, settings, labeller, (settings.distill.outputs,))

    def list_missing_fold_teachers(self, split: Split, settings: Settings, groups: SpeakerGroups) -> list[FoldFit]:
        """Return the fold teachers that `build_for_other_split` needs and that have no stored outputs."""
        if not settings.distill.alpha:
            return []
        digests = () if self.unlabelled is None else self.unlabelled.hashes
        labeller = self._make_labeller(split, groups)
        return labeller.list_missing(split, (settings.distill.outputs,), self._prepare_copies(split), digests)

    def refuse_teacher_leak(self, splits: Sequence[Split]) -> None:
        """Refuse splits whose dev or test clips the registered teacher was trained on, where a trial uses its outputs.

        Raises:
            LineageLeak: names the clips.
        """
        self._split_labeller.refuse_teacher_leak(splits, list_output_modes(self._space))

    @cached_property
    def unlabelled(self) -> UnlabelledPool | None:
        """The unlabelled speech that a trial may use, or None.

        Raises:
            LineageLeak: it contains clips of the corpus, or other clips of its speakers.
        """
        name = find_unlabelled_name(self._space)
        if not name or self._teacher is None:
            return None
        needs = [self._input_needs, *self._teacher.feature_needs]
        return prepare_unlabelled(name, needs, [self._corpus.split], self._show_progress)

    @property
    def _input_needs(self) -> FeatureNeed:
        return list_input_families([self._space]), self._space.fixed_settings.features.dtype

    def _pick_distilled_settings(self) -> Settings:
        """Return settings that use teacher outputs if any trial of the space does."""
        axis = next((axis for axis in self._space.axes if axis.name == "distill.alpha"), None)
        fixed = self._space.fixed_settings
        return fixed if axis is None else fixed.with_overrides({axis.name: max(axis.values)})

    def _prepare_copies(self, split: Split) -> AugmentedClips:
        """Return every augmented copy of the training clips that a trial of the space can use."""
        recipes = list_copy_recipes(self._space)
        if not recipes:
            return NO_AUGMENTED_CLIPS
        needs = [self._input_needs, *(self._teacher.feature_needs[:1] if self._teacher is not None else ())]
        return prepare_copies(split, recipes, needs, self._show_progress)

    @cached_property
    def _split_labeller(self) -> TeacherLabeller:
        return self._make_labeller(self._corpus.split, None)

    def _make_labeller(self, split: Split, groups: SpeakerGroups) -> TeacherLabeller:
        assert self._teacher is not None, "a space with distillation has a teacher"
        return TeacherLabeller(self._teacher, split, self._cluster, self._show_progress, groups)
