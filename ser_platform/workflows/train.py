"""`ser train`: one configuration, trained once on each fold of a split, without a search.

The model of one fold is scored once on the test clips and registered as the candidate. With several folds the
predictions of all folds are scored together, and no model is registered.
"""

import contextlib
import time
import uuid
from typing import Any

import torch

from ser_platform.errors import UserError
from ser_platform.features.dataset import Dataset, add_features, prepare_dataset
from ser_platform.progress import Display
from ser_platform.settings import Settings, check_overrides, resolve, runs_folder
from ser_platform.tracking.mlflow_store import Client, open_client
from ser_platform.training.adversary_loss import encode_languages
from ser_platform.training.closed_form.closed_form_settings import describe_fitted_model, is_fitted_at_once
from ser_platform.training.configuration import (
    count_prediction_parameters,
    feature_view,
    has_adversary,
    pin_settings,
    refuse_contradictions,
)
from ser_platform.training.precision import make_precision
from ser_platform.tuning.execution.cluster import connect_cluster
from ser_platform.tuning.execution.distributed_fit import form_team_sharing, refuse_workers
from ser_platform.tuning.execution.remote_extraction import choose_mapper
from ser_platform.tuning.search_space.default_settings import choose_defaults
from ser_platform.tuning.search_space.registered_names import REGISTRIES
from ser_platform.tuning.teacher_labels.teacher import Teacher, find_teacher
from ser_platform.tuning.teacher_labels.unlabelled_pool import FeatureNeed, UnlabelledPool, prepare_unlabelled
from ser_platform.workflows.initial_weights import InitialModel, find_initial_model
from ser_platform.workflows.train_plan import TrainRequest
from ser_platform.workflows.training_run import FoldStart, TrainingRun, TrainResult


def run_training(plan: TrainRequest, display: Display) -> TrainResult:
    """Start a training, or continue an interrupted one.

    Raises:
        UserError: the request cannot be fulfilled; raised before the first epoch.
    """
    began = time.monotonic()
    if plan.workers is not None:
        refuse_workers(plan.workers, plan.device)
    device = choose_device(plan.device) if plan.workers is None else None
    client = open_client() if plan.init else None
    initial_model = find_initial_model(client, plan.init) if client and plan.init else None
    settings = _resolve_settings(plan, initial_model)
    view = feature_view(settings)  # refuses an unknown architecture, and feature sets that cannot be combined
    refuse_contradictions(settings)
    if device is not None:
        make_precision(settings, device)
    request = plan.data.with_labels(settings.data.labels)
    dtype = settings.features.dtype
    dataset = prepare_dataset(request, display, names=view.required_families, mapper=choose_mapper(), dtype=dtype)
    _refuse_untrainable(settings, dataset)
    client = client or open_client()
    teachers = _find_teachers(client, dataset, settings)
    for needs, stored_as in (each for teacher in teachers if teacher for each in teacher.feature_needs):
        add_features(dataset, needs, stored_as, display)
    unlabelled = _prepare_pool(settings, dataset, teachers, display)
    start = FoldStart(initial_model, dataset, settings, plan.allow_leak)
    if initial_model is not None:
        display.print_line(initial_model.describe_transfer(dataset.labels))
    plan.refuse_changed(_collect_fingerprints(dataset, teachers, initial_model, unlabelled))
    with contextlib.nullcontext() if plan.workers is None else connect_cluster():
        team = None if plan.workers is None else form_team_sharing(runs_folder(), plan.workers, plan.device, settings)
        if team is not None and team.device != "cuda":  # a GPU is checked by its worker
            make_precision(settings, torch.device(team.device))
        # Random letters distinguish trainings that start in the same second, in the store and in the ledger.
        plan.name = (
            plan.name or f"train-{plan.role}-{dataset.name}-{time.strftime('%y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
        )
        with plan.hold_lock():
            plan.save()
            try:
                training = TrainingRun(
                    plan, dataset, settings, device, team, client, display, teachers, start, unlabelled
                )
                return training.run(began)
            except UserError:
                if not any(plan.fold_folder(number).epoch_results for number in range(len(dataset.splits))):
                    plan.remove_folder()  # a second start would be refused too
                raise


def _resolve_settings(plan: TrainRequest, initial_model: InitialModel | None) -> Settings:
    """Return all settings: the user's, then those of the initial model, then defaults of role and architecture."""
    inherited = {} if initial_model is None else initial_model.inherited_settings
    named = {**inherited, **check_overrides(plan.overrides, REGISTRIES)}
    defaults = choose_defaults(plan.role, named, needs_gradients=plan.workers is not None)
    settings = pin_settings(resolve(defaults | named))
    if plan.workers is not None and is_fitted_at_once(settings):
        raise UserError(f"{describe_fitted_model(settings)} is fitted in one step by one process; leave --workers out")
    if initial_model is not None:
        initial_model.refuse_incompatible(settings)
    return settings


def _refuse_untrainable(settings: Settings, dataset: Dataset) -> None:
    """Refuse settings and corpora on which the model cannot be trained, before a run or a worker is started.

    Raises:
        UserError: names the setting.
    """
    count_prediction_parameters(settings, len(dataset.labels))
    if has_adversary(settings):
        for split in dataset.splits:
            encode_languages(tuple(split.manifest.column("language")), split.train)


def _collect_fingerprints(
    dataset: Dataset,
    teachers: list[Teacher | None],
    initial_model: InitialModel | None,
    unlabelled: UnlabelledPool | None,
) -> dict[str, Any]:
    """Return the fingerprints that must be unchanged when a training continues."""
    return {
        "split": [split.fingerprint for split in dataset.splits],
        "teacher": [teacher.title if teacher else "" for teacher in teachers],
        "init": "" if initial_model is None else initial_model.title,
        "unlabelled": "" if unlabelled is None else unlabelled.fingerprint,
    }


def _prepare_pool(
    settings: Settings, dataset: Dataset, teachers: list[Teacher | None], display: Display
) -> UnlabelledPool | None:
    """Return the unlabelled speech of the settings, with the features of the student and its teachers, or None."""
    name = settings.distill.unlabelled
    if not name:
        return None
    needs: list[FeatureNeed] = [(feature_view(settings).required_families, settings.features.dtype)]
    needs += [each for teacher in teachers if teacher for each in teacher.feature_needs]
    return prepare_unlabelled(name, needs, dataset.splits, display.show_progress)


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` is a GPU where this process has one.

    Raises:
        UserError: this machine has no such device.
    """
    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if has[kind])
    if not has.get(name, False):
        choices = ", ".join(kind for kind in has if has[kind])
        raise UserError(f"--device {name}: this machine has no such device; choose from: auto, {choices}")
    return torch.device(name)


def _find_teachers(client: Client, dataset: Dataset, settings: Settings) -> list[Teacher | None]:
    if settings.distill.alpha == 0:
        return [None] * len(dataset.splits)
    return [find_teacher(client, dataset, split) for split in dataset.splits]
