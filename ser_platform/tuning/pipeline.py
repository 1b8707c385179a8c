"""`ser tune`: a corpus, one study after another, a leaderboard; resumable as a whole."""

import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ser_platform import __version__
from ser_platform.corpora.finding import find_corpus
from ser_platform.corpora.manifest import Manifest
from ser_platform.corpora.splits import split_by_speaker
from ser_platform.errors import CorpusError, UserError
from ser_platform.evaluation.baseline import svm_predictions
from ser_platform.evaluation.ledger import record_read
from ser_platform.evaluation.scoring import TestScore, score_test
from ser_platform.features import FEATURE_SETS
from ser_platform.features.store import prepare, verify
from ser_platform.files import read_json, write_json
from ser_platform.settings import Settings, as_json, runs_folder
from ser_platform.tracking.registry import CANDIDATE, CHAMPION, find_alias, find_version, load, model_name
from ser_platform.tracking.store import Client, experiment_id, open_client
from ser_platform.tuning.cluster import Cluster, cluster
from ser_platform.tuning.display import Display
from ser_platform.tuning.journal import FAILED, FINISHED, INTERRUPTED, RUNNING, StudyFolder, find_study, new_study
from ser_platform.tuning.space import Space, read_space
from ser_platform.tuning.study import Corpus, Outcome, StudyRun, Teacher


@dataclass
class Plan:
    """What `ser tune` was asked for, and the study that each space has become; kept in `runs/tune.json`."""

    spaces: list[str]
    corpus: str
    as_name: str | None = None
    trials: int | None = None
    minutes: float | None = None
    confirm: tuple[int, int] | None = None
    overrides: Settings = field(default_factory=dict)
    max_bad: float = 0.05
    seed: int = 0
    studies: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def path() -> Path:
        return runs_folder() / "tune.json"

    def save(self) -> None:
        write_json(self.path(), self.__dict__ | {"overrides": as_json(self.overrides)})

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

    corpus: Corpus
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
        corpus = prepare_corpus(plan, display)
        client = opening.result()
    _require_teacher(spaces, client, corpus)
    plan.save()
    outcomes: list[Outcome] = []
    experiment = experiment_id(client, f"ser-{corpus.name}")
    with cluster() as where:
        for path, space in zip(plan.spaces, spaces, strict=True):
            if plan.finished(path):
                display.say(f"{space.name}: finished before ({plan.studies[path]})")
                continue
            outcomes.append(_study(plan, path, space, corpus, client, experiment, where, display))
    return Tuned(corpus, outcomes, score_baseline(corpus), time.monotonic() - began)


def _study(
    plan: Plan,
    path: str,
    space: Space,
    corpus: Corpus,
    client: Client,
    experiment: str,
    where: Cluster,
    display: Display,
) -> Outcome:
    folder = _folder(plan, path, space, corpus)
    teacher = _teacher(client, corpus) if space.role == "student" and _distils(space) else None
    run = StudyRun(space, corpus, folder, client, experiment, where, display, code_version(), teacher)
    try:
        return run.run()
    except KeyboardInterrupt:
        run.abandon(INTERRUPTED)
        raise
    except BaseException:
        run.abandon(FAILED)
        raise


def _folder(plan: Plan, path: str, space: Space, corpus: Corpus) -> StudyFolder:
    """Return the study's folder: the one it was interrupted in, or a new one."""
    if path in plan.studies:
        folder = find_study(plan.studies[path])
        if folder.summary["split"] != corpus.split.fingerprint:
            raise CorpusError(f"{folder.name} cannot be resumed: the corpus or its split has changed since it began")
        folder.update(state=RUNNING)
        return folder
    name = f"{space.name}-{corpus.name}-{time.strftime('%m%d-%H%M%S')}"
    folder = new_study(name, role=space.role, corpus=corpus.name, space=path, split=corpus.split.fingerprint)
    plan.studies[path] = folder.name
    plan.save()
    return folder


def prepare_corpus(plan: Plan, display: Display) -> Corpus:
    """Find, check, extract and split the plan's corpus."""
    began = time.monotonic()
    found = find_corpus(plan.corpus, plan.as_name)
    return corpus_from(found.name, found.manifest(), display, plan.max_bad, plan.seed, began)


def corpus_from(
    name: str, manifest: Manifest, display: Display, max_bad: float = 0.05, seed: int = 0, began: float | None = None
) -> Corpus:
    """Extract and split a manifest."""
    began = time.monotonic() if began is None else began
    with display.counting(f"{name}: files decoded") as count:
        prepared = prepare(manifest, max_bad, count)
    split = split_by_speaker(prepared.manifest, seed)
    verify(prepared.manifest.column("audio_sha256"), FEATURE_SETS)
    display.say(
        f"{name}: {len(prepared.manifest)} clips, {len(split.manifest.labels)} emotions; "
        + ", ".join(f"{part} {len(split.speakers(part))} speakers" for part in split.parts)
        + f"; {prepared.extracted} files decoded in {time.monotonic() - began:.1f} s"
    )
    for bad in prepared.set_aside:
        display.say(f"set aside: {bad}")
    for gap in split.gaps:
        display.say(f"note: {gap}; UAR is over the classes that are there")
    return Corpus(name, split)


def score_baseline(corpus: Corpus) -> TestScore:
    """Score the pooled-feature SVM on the test clips."""
    score = score_test(corpus.split, corpus.labels, svm_predictions(corpus.split))
    record_read(corpus.split.test_fingerprint, "pooled-feature SVM", "reference row of the leaderboard")
    return score


def _distils(space: Space) -> bool:
    """Tell whether any configuration of a space learns from a teacher."""
    axis = next((axis for axis in space.axes if axis.name == "distill.alpha"), None)
    return space.settings({})["distill.alpha"] > 0 if axis is None else max(axis.values) > 0


def _require_teacher(spaces: Sequence[Space], client: Client, corpus: Corpus) -> None:
    """Refuse a student that distils when no teacher is there and none is tuned before it."""
    for space in spaces:
        if space.role == "teacher":
            return
        if _distils(space):
            _teacher(client, corpus)


def _teacher(client: Client, corpus: Corpus) -> Teacher:
    """Return the teacher to learn from: of this corpus and split, the candidate before the champion.

    Raises:
        UserError: there is none, or it has seen test clips of this split.
    """
    name = model_name("teacher")
    found = [model for alias in (CANDIDATE, CHAMPION) if (model := find_alias(client, name, alias))]
    fitting = [model for model in found if model.tags.get("split") == corpus.split.fingerprint]
    if not fitting:
        have = ", ".join(f"{model.title} of {model.tags.get('corpus')}" for model in found) or "none at all"
        raise UserError(
            f"no {name} for this corpus and split (there is {have}); run: ser tune teacher --corpus {corpus.name}"
        )
    model = find_version(client, name, fitting[0].version)
    return Teacher(model, load(client, model))


def code_version() -> str:
    """Return the package's version, and the commit where it runs from a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return __version__
    done = subprocess.run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return f"{__version__}+{done.stdout.strip()}" if done.returncode == 0 else __version__
