"""The registered teacher of a student; a teacher that was trained on test clips is refused."""

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
    make_model_name,
)


@dataclass(frozen=True)
class Teacher:
    """The registered teacher of a student; fold teachers are trained with its recipe.

    Only `load_bundle` reads its weights: they are not needed once its outputs are stored.
    """

    model: RegisteredVersion
    description: BundleDescription
    client: Client
    own_teacher: "Teacher | None" = None  # of an assistant, which is a distilled student itself

    @property
    def n_epochs(self) -> int:
        return int(self.description.provenance["epochs"])

    @property
    def feature_needs(self) -> list[tuple[tuple[str, ...], str]]:
        """The feature families of its inputs and of its own teachers' inputs, each with the dtype of their storage."""
        own = [] if self.own_teacher is None else self.own_teacher.feature_needs
        return [(self.description.view.required_families, self.description.settings.features.dtype), *own]

    @property
    def digest(self) -> str:
        """The digest of the registered bundle."""
        return self.model.tags["digest"]

    def load_bundle(self) -> Bundle:
        """Return the teacher with its weights.

        Raises:
            BundleError: they are deleted or altered.
        """
        return load_bundle(self.client, self.model)

    @property
    def title(self) -> str:
        return f"{self.model.name}/{self.model.version}"


def find_teacher(
    client: Client, dataset: Dataset, split: Split, teacher_name: str = "", register_as: str = ""
) -> Teacher:
    """Return the registered teacher of this corpus and split: the candidate, else the champion.

    Args:
        teacher_name: a registered model instead of these. A distilled student is an assistant, which has a teacher of
            its own (Mirzadeh et al., 2020, "Improved Knowledge Distillation via Teacher Assistant", arXiv:1902.03393).
        register_as: prefix of the registered name of the teacher, "" for the default.

    Raises:
        UserError: there is no teacher, or it has another corpus, labels or split.
        LineageLeak: it was trained on test clips of this split.
    """
    refuse_leaky_distillation(split)
    if teacher_name:
        return _find_named_teacher(client, dataset, split, teacher_name)
    name = make_model_name("teacher", register_as)
    found = [model for alias in (CANDIDATE, CHAMPION) if (model := find_alias(client, name, alias))]
    fitting = [model for model in found if model.tags.get("split") == split.fingerprint]
    if not fitting:
        have = ", ".join(f"{model.title} of {model.tags.get('corpus')}" for model in found) or "none"
        raise UserError(
            f"no {name} for this corpus, labels and split (registered: {have}); "
            f"run: ser tune teacher --corpus {dataset.name}" + (f" --register-as {register_as}" if register_as else "")
        )
    return _load_teacher(client, find_version(client, name, fitting[0].version), split)


def _find_named_teacher(client: Client, dataset: Dataset, split: Split, teacher_name: str) -> Teacher:
    model = find_model(client, teacher_name)
    if model.tags.get("split") != split.fingerprint:
        raise UserError(
            f"{model.title} was tuned on {model.tags.get('corpus')} with another split or other labels; give a teacher "
            f"that was tuned on this split of {dataset.name}"
        )
    return _load_teacher(client, model, split)


def _load_teacher_chain(client: Client, model: RegisteredVersion) -> Teacher:
    """Return a teacher with its own teacher, and so on."""
    name, _, version = model.tags.get("teacher", "").partition("/")
    own = _load_teacher_chain(client, find_version(client, name, version)) if version else None
    return Teacher(model, load_description(client, model), client, own)


def _load_teacher(client: Client, model: RegisteredVersion, split: Split) -> Teacher:
    teacher = _load_teacher_chain(client, model)
    # Dev is not checked: its recipe is used, not its weights, which may be trained on rotated dev speakers.
    refuse_leak(teacher.description.lineage, split, f"teacher {teacher.model.title}", parts=("test",))
    return teacher


def load_teacher(client: Client, dataset: Dataset, title: str) -> Teacher:
    """Return the teacher `NAME/VERSION` of a study.

    Raises:
        UserError: the version does not exist.
        LineageLeak: it was trained on test clips of the corpus's split.
    """
    name, _, version = title.partition("/")
    return _load_teacher(client, find_version(client, name, version), dataset.split)


def refuse_leaky_distillation(split: Split) -> None:
    """Raise UserError for a split whose parts share speakers: a fold teacher could be trained on clips it labels."""
    if split.leaks:
        raise UserError(
            f"a student cannot be distilled under protocol {split.protocol_stamp}: its teacher would be trained on the "
            "speakers that it labels; add --set distill.alpha=0, or give a split by speaker"
        )
