"""The registered teacher that a student learns from: found, and refused where it has seen the test clips."""

from dataclasses import dataclass

from ser_platform.corpora.lineage import refuse_leak
from ser_platform.corpora.splits.split import Split
from ser_platform.errors import UserError
from ser_platform.features.dataset import Dataset
from ser_platform.inference.bundle import Bundle, BundleDescription
from ser_platform.tracking.mlflow_store import Client
from ser_platform.tracking.registry import (
    CANDIDATE,
    CHAMPION,
    RegisteredVersion,
    find_alias,
    find_model,
    find_version,
    load_bundle,
    load_description,
    model_name,
)


@dataclass(frozen=True)
class Teacher:
    """The registered teacher that a student learns from: its recipe trains the fold teachers.

    Its weights are read by `bundle` alone: they may be gone where its outputs are kept.
    """

    model: RegisteredVersion
    description: BundleDescription
    client: Client
    own_teacher: "Teacher | None" = None  # whom it has learnt from itself, where it is an assistant

    @property
    def n_epochs(self) -> int:
        return int(self.description.provenance["epochs"])

    @property
    def feature_needs(self) -> list[tuple[tuple[str, ...], str]]:
        """The feature families that it hears, and whom it has learnt from, each with how they are stored."""
        own = [] if self.own_teacher is None else self.own_teacher.feature_needs
        return [(self.description.view.required_families, self.description.settings.features.dtype), *own]

    @property
    def digest(self) -> str:
        """Of the registered bundle."""
        return self.model.tags["digest"]

    def load_bundle(self) -> Bundle:
        """Return the teacher with its weights.

        Raises:
            BundleError: they are gone, or altered.
        """
        return load_bundle(self.client, self.model)

    @property
    def title(self) -> str:
        return f"{self.model.name}/{self.model.version}"


def find_teacher(client: Client, dataset: Dataset, split: Split, teacher_name: str = "") -> Teacher:
    """Return the teacher to learn from: of this corpus and split, the candidate before the champion.

    Args:
        named: a registered model in their place; a distilled student among them is an assistant, which brings its own
            teacher (Mirzadeh et al., 2020, "Improved Knowledge Distillation via Teacher Assistant", arXiv:1902.03393).

    Raises:
        UserError: there is none, it is of another corpus, labels or split, or has seen test clips of this split.
    """
    refuse_leaky_distillation(split)
    if teacher_name:
        return _find_named_teacher(client, dataset, split, teacher_name)
    name = model_name("teacher")
    found = [model for alias in (CANDIDATE, CHAMPION) if (model := find_alias(client, name, alias))]
    fitting = [model for model in found if model.tags.get("split") == split.fingerprint]
    if not fitting:
        have = ", ".join(f"{model.title} of {model.tags.get('corpus')}" for model in found) or "none at all"
        raise UserError(
            f"no {name} for this corpus, labels and split (there is {have}); "
            f"run: ser tune teacher --corpus {dataset.name}"
        )
    return _load_teacher(client, find_version(client, name, fitting[0].version), split)


def _find_named_teacher(client: Client, dataset: Dataset, split: Split, teacher_name: str) -> Teacher:
    model = find_model(client, teacher_name)
    if model.tags.get("split") != split.fingerprint:
        raise UserError(
            f"{model.title} is of {model.tags.get('corpus')} under another split or other labels; a teacher of "
            f"{dataset.name} must be tuned on the same split"
        )
    return _load_teacher(client, model, split)


def _load_teacher_chain(client: Client, model: RegisteredVersion) -> Teacher:
    """Return a teacher, with whom it has learnt from, and so on."""
    name, _, version = model.tags.get("teacher", "").partition("/")
    own = _load_teacher_chain(client, find_version(client, name, version)) if version else None
    return Teacher(model, load_description(client, model), client, own)


def _load_teacher(client: Client, model: RegisteredVersion, split: Split) -> Teacher:
    teacher = _load_teacher_chain(client, model)
    # Its recipe is used, not its weights, which rotated dev speakers may have trained: dev is no matter here.
    refuse_leak(teacher.description.lineage, split, f"teacher {teacher.model.title}", parts=("test",))
    return teacher


def load_teacher(client: Client, dataset: Dataset, title: str) -> Teacher:
    """Return the teacher `NAME/VERSION` of a study that has begun.

    Raises:
        UserError: it is gone, or has seen test clips of the corpus' split.
    """
    name, _, version = title.partition("/")
    return _load_teacher(client, find_version(client, name, version), dataset.split)


def refuse_leaky_distillation(split: Split) -> None:
    """Refuse to distil on a split that leaks: fold teachers are kept from speakers, which it does not keep apart.

    Raises:
        UserError: the split leaks.
    """
    if split.leaks:
        raise UserError(
            f"a student cannot learn from a teacher under protocol {split.protocol_stamp}: the teacher would hear "
            "whom it is to label; add --set distill.alpha=0, or take a split by speaker"
        )
