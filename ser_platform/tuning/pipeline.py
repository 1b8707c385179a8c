"""`ser tune`: a corpus, one study after another, a leaderboard; resumable as a whole."""

import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ser_platform.errors import CorpusError, UserError
from ser_platform.evaluation.baseline import svm_predictions
from ser_platform.evaluation.ledger import record_read
from ser_platform.evaluation.scoring import TestScore, score_test
from ser_platform.features.dataset import DataRequest, Dataset, add_features, prepare_dataset
from ser_platform.files import read_json, write_json
from ser_platform.progress import Display
from ser_platform.settings import Settings, as_json, runs_folder
from ser_platform.tracking.store import Client, experiment_id, open_client
from ser_platform.tuning.candidate import code_version, find_teacher, refuse_leaky_teaching
from ser_platform.tuning.cluster import Cluster, cluster
from ser_platform.tuning.distributed import trial_team
from ser_platform.tuning.extraction import mapper, needed_families
from ser_platform.tuning.journal import FAILED, FINISHED, INTERRUPTED, RUNNING, StudyFolder, find_study, new_study
from ser_platform.tuning.space import Space
from ser_platform.tuning.space_file import read_space
from ser_platform.tuning.study import Outcome, StudyRun


@dataclass
class Plan:
    """What `ser tune` was asked for, and the study that each space has become; kept in `runs/tune.json`."""

    spaces: list[str]
    data: DataRequest
    trials: int | None = None
    minutes: float | None = None
    confirm: tuple[int, int] | None = None
    overrides: Settings = field(default_factory=dict)
    studies: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def path() -> Path:
        return runs_folder() / "tune.json"

    def save(self) -> None:
        plain = {"data": self.data.as_json(), "overrides": as_json(self.overrides)}
        write_json(self.path(), self.__dict__ | plain)

    @classmethod
    def last(cls) -> "Plan":
        """Return the last plan of the working directory.

        Raises:
            UserError: there is none, or it is finished.
        """
        if not cls.path().exists():
            raise UserError("nothing to resume here; start with: ser tune")
        content: dict[str, Any] = read_json(cls.path())
        try:
            content["data"] = DataRequest.from_json(content["data"])
            content["confirm"] = None if content["confirm"] is None else tuple(content["confirm"])
            plan = cls(**content)
        except (KeyError, TypeError) as error:
            raise UserError(f"{cls.path()} is of another version; start another tuning with: ser tune") from error
        if all(plan.finished(space) for space in plan.spaces):
            raise UserError("the last tuning is finished: nothing to resume; start another with: ser tune")
        return plan

    def finished(self, space: str) -> bool:
        """Tell whether the study of a space is finished."""
        return space in self.studies and find_study(self.studies[space]).summary["state"] == FINISHED

    def read_spaces(self) -> list[Space]:
        """Read and check all search spaces, with the user's overrides."""
        return [
            read_space(Path(path)).with_overrides(self.overrides, self.trials, self.minutes, self.confirm)
            for path in self.spaces
        ]


@dataclass(frozen=True)
class Tuned:
    """What `ser tune` came to: the studies of this call, and the SVM's score on the same test clips."""

    corpus: Dataset
    outcomes: list[Outcome]
    baseline: TestScore
    seconds: float


def tune(plan: Plan, display: Display) -> Tuned:
    """Run the plan's studies that are not finished.

    Raises:
        UserError: the plan cannot be carried out; before anything starts.
    """
    began = time.monotonic()
    spaces = plan.read_spaces()
    runs_folder().mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(open_client)  # a new SQLite store takes seconds; the corpus is prepared meanwhile
        request, names = plan.data.with_labels(_agreed(spaces, "data.labels")), needed_families(spaces)
        dtype = _agreed(spaces, "features.dtype")
        corpus = prepare_dataset(request, display, one_split=True, names=names, mapper=mapper(), dtype=dtype)
        client = opening.result()
    _require_teacher(spaces, client, corpus)
    plan.save()
    outcomes: list[Outcome] = []
    experiment = experiment_id(client, f"ser-{corpus.name}")
    with cluster() as where:
        for space in spaces:
            if space.resources.workers:
                trial_team(space.resources.workers, where)  # refuses more workers than there are places
        for path, space in zip(plan.spaces, spaces, strict=True):
            if plan.finished(path):
                display.say(f"{space.name}: finished before ({plan.studies[path]})")
                continue
            outcomes.append(_study(plan, path, space, corpus, client, experiment, where, display))
    return Tuned(corpus, outcomes, score_baseline(corpus, dtype), time.monotonic() - began)


def _study(
    plan: Plan,
    path: str,
    space: Space,
    corpus: Dataset,
    client: Client,
    experiment: str,
    where: Cluster,
    display: Display,
) -> Outcome:
    folder = _folder(plan, path, space, corpus)
    teacher = find_teacher(client, corpus, corpus.split) if space.role == "student" and _distils(space) else None
    if teacher is not None:
        bundle = teacher.bundle
        add_features(corpus, bundle.view.needs, bundle.settings["features.dtype"], display)
    run = StudyRun(space, corpus, folder, client, experiment, where, display, code_version(), teacher)
    try:
        return run.run()
    except KeyboardInterrupt:
        run.abandon(INTERRUPTED)
        raise
    except BaseException:
        run.abandon(FAILED)
        raise


def _folder(plan: Plan, path: str, space: Space, corpus: Dataset) -> StudyFolder:
    """Return the study's folder: the one it was interrupted in, or a new one."""
    if path in plan.studies:
        folder = find_study(plan.studies[path])
        if folder.summary["split"] != corpus.split.fingerprint:
            raise CorpusError(f"{folder.name} cannot be resumed: the corpus or its split has changed since it began")
        folder.update(state=RUNNING)
        return folder
    name = f"{space.name}-{corpus.name}-{time.strftime('%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
    folder = new_study(name, role=space.role, corpus=corpus.name, space=path, split=corpus.split.fingerprint)
    plan.studies[path] = folder.name
    plan.save()
    return folder


def score_baseline(corpus: Dataset, dtype: str) -> TestScore:
    """Score the pooled-feature SVM on the test clips."""
    score = score_test(corpus.split, corpus.labels, svm_predictions(corpus.split, dtype))
    record_read(corpus.split.test_fingerprint, "pooled-feature SVM", "reference row of the leaderboard")
    return score


def _distils(space: Space) -> bool:
    """Tell whether any configuration of a space learns from a teacher."""
    axis = next((axis for axis in space.axes if axis.name == "distill.alpha"), None)
    return space.fixed("distill.alpha") > 0 if axis is None else max(axis.values) > 0


def _require_teacher(spaces: Sequence[Space], client: Client, corpus: Dataset) -> None:
    """Refuse a student that distils where no teacher can be had: none is there or tuned before, or the split leaks."""
    for space in spaces:
        if space.role == "student" and _distils(space):
            refuse_leaky_teaching(corpus.split)
    for space in spaces:
        if space.role == "teacher":
            return
        if _distils(space):
            find_teacher(client, corpus, corpus.split)


def _agreed(spaces: Sequence[Space], setting: str) -> str:
    """Return what the spaces agree on where a tuning has one of it."""
    values = {str(space.fixed(setting)) for space in spaces}
    if len(values) > 1:
        told = "; ".join(sorted(values))
        raise UserError(f"the search spaces disagree on {setting} ({told}); give --set {setting}=...")
    return values.pop()
