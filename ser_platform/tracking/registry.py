"""The model registry: `ser-teacher`, `ser-student` or other names per task, their versions, aliases and digests.

Bundles need torch, and MLflow's pyfunc and signatures take seconds to import: functions that use them import them.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException

from ser_platform.errors import UserError, WorkFailed
from ser_platform.tracking.mlflow_store import Client

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

    from ser_platform.inference.bundle import Bundle, BundleDescription

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
PASSED_OVER_TAG = "passed_over"  # a tag with the reason why a version did not become the candidate
SAME_SPLIT_TAGS = ("split", "labels", "protocol")  # equal for two versions whose dev UAR can be compared
DECISION_TAGS = ("promotion", "promotion_refused", "rollback", PASSED_OVER_TAG)
LOCK_PREFIX = "ser-lock-"  # prefix of the registered model that locks the aliases of another one
MODEL_NAME_PATTERN = re.compile(rf"(?!{LOCK_PREFIX})[\w.-]+-(?P<role>teacher|student)")
FIGURES_FOLDER = "figures"  # in the artefacts of a version
# MLflow's codes for a missing version or alias; other errors, such as a missing permission, are raised.
NOT_FOUND_ERRORS = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
MODEL_PATH = "model"  # among the artefacts of the study's run
REFERENCE_PATTERN = re.compile(r"(?P<name>[\w.-]+)(@(?P<alias>[\w.-]+)|/(?P<version>\d{1,9}))?")
# Without a version: a later one reads the bundle too, and MLflow would warn at each installed version that differs,
# also of an editable installation older than its code. `code_version` in the bundle is the version that wrote it.
PIP_REQUIREMENTS = ["ser-platform"]


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model."""

    name: str
    version: str
    aliases: tuple[str, ...]
    run_id: str
    tags: Mapping[str, str]

    @property
    def metrics(self) -> dict[str, float]:
        """Dev and test figures in [0, 1], with the interval of the test UAR."""
        metrics: dict[str, float] = json.loads(self.tags.get("metrics", "{}"))
        return metrics

    @property
    def title(self) -> str:
        return f"{self.name} v{self.version}"

    @property
    def dev_uar(self) -> float:
        """The dev UAR that selects the candidate: with new seeds for a study's winner, else of its training; or NaN."""
        return self.metrics.get("dev_uar_new_seeds", self.metrics.get("dev_uar", math.nan))

    @property
    def registration_message(self) -> str:
        """The outcome of its registration, in one line."""
        outcome = f"; {self.tags[PASSED_OVER_TAG]}" if PASSED_OVER_TAG in self.tags else " as candidate"
        return f"registered {self.name} version {self.version}{outcome}"


def make_model_name(role: str, register_as: str = "") -> str:
    """Return the registered name of the models of a role: `ser-ROLE`, or with `register_as` in place of `ser`.

    Raises UserError where it cannot be a name.
    """
    name = f"{register_as or 'ser'}-{role}"
    if not MODEL_NAME_PATTERN.fullmatch(name):
        raise UserError(f"--register-as takes letters, digits, '.', '_' and '-', like calls; got {register_as!r}")
    return name


def find_role(name: str) -> str:
    """Return the role of the models with a registered name; "" where the name is not one of this platform's."""
    parts = MODEL_NAME_PATTERN.fullmatch(name)
    return parts["role"] if parts else ""


def list_model_names(client: Client) -> list[str]:
    """Return the registered names of this platform's models, sorted; other models in the store are left out."""
    return sorted(model.name for model in client.search_registered_models() if find_role(model.name))


def make_artifact_suffix(client: Client, name: str, run_id: str, trial: str) -> str:
    """Return the suffix of a version's artefacts: "" for the first version of a run; an extended study adds others."""
    trials = [known.tags.get("trial") for known in _find_versions(client, name, run_id)]
    return "" if not trials or trials[0] == trial else f"-{trial}"


def _find_versions(client: Client, name: str, run_id: str) -> list[ModelVersion]:
    found = [known for known in client.search_model_versions(f"name = '{name}'") if known.run_id == run_id]
    return sorted(found, key=lambda known: int(known.version))


def register(
    client: Client,
    name: str,
    run_id: str,
    bundle: Path,
    digest: str,
    tags: Mapping[str, str],
    card: str,
    figures: Iterable[Path] = (),
) -> RegisteredVersion:
    """Log a bundle to a run as a pyfunc model, register it as a new version, and update the candidate.

    A trial that the run registered before, in a study that was killed or extended, gets no second version.

    Args:
        digest: of the bundle's MANIFEST.
        tags: of the version; `trial` is required.
        card: the description of the version.
        figures: files that are logged beside the bundle.
    """
    import mlflow.pyfunc

    for known in _find_versions(client, name, run_id):
        if known.tags.get("trial") == tags["trial"]:
            return update_candidate(client, find_version(client, name, str(known.version)))
    path = MODEL_PATH + make_artifact_suffix(client, name, run_id, tags["trial"])
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / path
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*input example")  # the signature is given
            mlflow.pyfunc.save_model(
                str(target),
                loader_module="ser_platform.tracking.pyfunc",
                data_path=str(bundle),
                signature=_make_signature(),
                pip_requirements=PIP_REQUIREMENTS,
            )
        for figure in figures:
            (target / FIGURES_FOLDER).mkdir(exist_ok=True)
            shutil.copy(figure, target / FIGURES_FOLDER)
        client.log_artifacts(run_id, str(target), path)
    client.create_registered_model(name)
    version = client.create_model_version(
        name, f"runs:/{run_id}/{path}", run_id, tags={**tags, "digest": digest}, description=card
    )
    return update_candidate(client, find_version(client, name, str(version.version)))


def _make_signature() -> ModelSignature:
    """Return the signature of `pyfunc.BundleModel`: one of the first three columns is given."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Array, Map

    columns: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "path", required=False),
        ColSpec(DataType.string, "audio", required=False),
        ColSpec(Array(DataType.double), "samples", required=False),
        ColSpec(DataType.long, "sample_rate", required=False),
    ]
    answers: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "emotion"),
        ColSpec(Map(DataType.double), "probabilities"),
    ]
    return ModelSignature(inputs=Schema(columns), outputs=Schema(answers))


def update_candidate(client: Client, model: RegisteredVersion) -> RegisteredVersion:
    """Make a version the candidate unless the present one is better on dev; return it with its new aliases and tags.

    Versions of another split, labels or protocol are not compared: the newer one becomes the candidate.
    """
    present = find_alias(client, model.name, CANDIDATE)
    if present is not None and present.version != model.version and _is_better(present, model):
        why = f"version {present.version} stays candidate: dev UAR {present.dev_uar:.3f} against {model.dev_uar:.3f}"
        client.set_model_version_tag(model.name, model.version, PASSED_OVER_TAG, why)
    else:
        if PASSED_OVER_TAG in model.tags:
            client.delete_model_version_tag(model.name, model.version, PASSED_OVER_TAG)
        client.set_registered_model_alias(model.name, CANDIDATE, model.version)
    return find_version(client, model.name, model.version)


def _is_better(one: RegisteredVersion, other: RegisteredVersion) -> bool:
    """Return whether a version is better on dev than another one of the same split, labels and protocol."""
    if any(tag not in one.tags or one.tags[tag] != other.tags.get(tag) for tag in SAME_SPLIT_TAGS):
        return False
    return one.dev_uar > other.dev_uar  # never where one of them is NaN


def list_models(client: Client) -> list[RegisteredVersion]:
    """Return every version of every model of this platform, newest first within a name."""
    return [
        find_version(client, name, str(version.version))
        for name in list_model_names(client)
        for version in sorted(client.search_model_versions(f"name = '{name}'"), key=lambda v: -int(v.version))
        if "digest" in version.tags  # of a bundle; another team's model may be called `bert-student`
    ]


def list_candidate_names(client: Client) -> list[str]:
    """Return the names of the models of this platform that have a candidate, teachers first."""
    names = {model.name for model in list_models(client) if CANDIDATE in model.aliases}
    return sorted(names, key=lambda name: (find_role(name) == "student", name))


def find_version(client: Client, name: str, version: str) -> RegisteredVersion:
    """Return a version of a model. Raises UserError where there is no such version."""
    found = _find_or_none(lambda: client.get_model_version(name, version))
    if found is None:
        raise UserError(f"there is no version {version} of a model {name}; see: ser models list")
    return RegisteredVersion(name, str(found.version), tuple(found.aliases), str(found.run_id), dict(found.tags))


def find_alias(client: Client, name: str, alias: str) -> RegisteredVersion | None:
    """Return the version that an alias points to; None where there is no such alias."""
    found = _find_or_none(lambda: client.get_model_version_by_alias(name, alias))
    return None if found is None else find_version(client, name, str(found.version))


def _find_or_none(find: Callable[[], ModelVersion]) -> ModelVersion | None:
    try:
        return find()
    except MlflowException as error:
        if error.error_code not in NOT_FOUND_ERRORS:
            raise
        return None


def find_model(client: Client, reference: str) -> RegisteredVersion:
    """Return the version for `NAME` (its champion), `NAME@ALIAS` or `NAME/VERSION`, each with or without `models:/`.

    Raises UserError where there is no such version; the message gives the command that creates one.
    """
    parts = REFERENCE_PATTERN.fullmatch(reference.removeprefix("models:/"))
    if parts is None:
        raise UserError(
            f"{reference!r} names no model; write NAME, NAME@ALIAS or NAME/VERSION, like ser-student@candidate"
        )
    name, alias, version = parts["name"], parts["alias"], parts["version"]
    if version:
        return find_version(client, name, version)
    if not client.search_registered_models(f"name = '{name}'"):
        raise UserError(f"no registered model {name!r}; `ser tune` makes ser-teacher and ser-student")
    found = find_alias(client, name, alias or CHAMPION)
    if found is None:
        raise UserError(
            f"{name} has no {alias or CHAMPION} yet; `ser models promote {name}` makes the candidate the champion"
        )
    return found


def load_bundle(client: Client, model: RegisteredVersion) -> Bundle:
    """Return the bundle of a registered version, verified against its registered digest."""
    from ser_platform.inference.bundle import read_bundle

    return read_bundle(download_bundle(client, model), model.tags.get("digest", "missing"))


def load_description(client: Client, model: RegisteredVersion) -> BundleDescription:
    """Return the verified description of the bundle of a registered version; its weights may be missing."""
    from ser_platform.inference.bundle import read_description

    return read_description(download_bundle(client, model), model.tags.get("digest", "missing"))


def download_bundle(client: Client, model: RegisteredVersion) -> Path:
    """Return the local folder of a registered version's bundle, downloading it where the store is remote."""
    from mlflow.artifacts import download_artifacts

    uri = client.get_model_version_download_uri(model.name, model.version)
    try:
        folder = Path(download_artifacts(artifact_uri=uri))
    except (MlflowException, OSError) as error:
        raise WorkFailed(f"the bundle of {model.title} cannot be read at {uri}") from error
    described = next(iter(folder.rglob("bundle.json")), None)
    if described is None:
        raise UserError(f"the bundle of {model.title} is missing at {uri}")
    return described.parent


def delete_version(client: Client, model: RegisteredVersion) -> None:
    """Delete a version, but not its artefacts. Raises UserError where an alias points to it."""
    if model.aliases:
        held = ", ".join(model.aliases)
        raise UserError(f"{model.title} is the {held}; promote or roll back first, then delete it")
    client.delete_model_version(model.name, model.version)


def version_as_json(model: RegisteredVersion) -> dict[str, Any]:
    """Return a version as it is printed with `--json`."""
    tags = model.tags
    return {
        "name": model.name,
        "version": model.version,
        "aliases": list(model.aliases),
        "metrics": model.metrics,
        **{key: tags.get(key, "") for key in ("protocol", "corpus", "study")},
        "teacher": tags.get("teacher"),
        "digest": tags.get("digest", ""),
        **{key: float(tags[key]) if key in tags else None for key in ("parameters", "size_bytes", "latency_ms")},
        "decisions": {key: tags[key] for key in DECISION_TAGS if key in tags},
    }
