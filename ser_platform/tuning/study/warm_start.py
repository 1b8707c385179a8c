"""Warm starts: results of earlier studies of the working directory, passed to the sampler of a new study.

Scores on another split or corpus are not comparable: of such a study only the best configurations are enqueued. A
study whose lineage contains dev or test clips of the new study, or their speakers, is refused.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from ser_platform.corpora.lineage import LINEAGE_LEAK_STAMP, Lineage, LineageLeak, count_leak
from ser_platform.corpora.splits.split import Split
from ser_platform.errors import UserError
from ser_platform.files import read_json, write_json
from ser_platform.settings import resolve
from ser_platform.tuning.search_space.space import Space, StoredParams
from ser_platform.tuning.search_space.trial_metrics import rename_former
from ser_platform.tuning.study.request import read_request
from ser_platform.tuning.study.study_folder import StudyFolder, find_study

WARM_START_FILE = "past.json"
ORIGIN_ATTRIBUTE = "from"  # attribute of a trial of an earlier study: STUDY/NUMBER
MAX_POINTS_PER_STUDY = 4  # configurations enqueued of a study whose scores are not comparable
EMPTY_LINEAGE = Lineage()
ENDED_STATES = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class WarmStart:
    """The earlier studies that a study starts from, and the lineage of all of them.

    Attributes:
        lineage: the clips and speakers of the earlier studies and, once saved, of this one.
        n_leaked_clips: dev and test clips that are in the lineage of the earlier studies, or whose speakers are; above
            0 only with --allow-leak.
    """

    lineage: Lineage = EMPTY_LINEAGE
    studies: tuple[str, ...] = ()
    n_leaked_clips: int = 0

    @property
    def stamp(self) -> str:
        """The suffix of the protocol of all results of the study, "" without leaked clips."""
        if not self.n_leaked_clips:
            return ""
        return f" ({LINEAGE_LEAK_STAMP}: its warm start used {self.n_leaked_clips} dev or test clips or their speakers)"

    def save(self, folder: StudyFolder, split: Split) -> None:
        """Write it into the folder of a study on this split, whose clips join the lineage."""
        lineage = self.lineage.union(Lineage.of_split(split))
        content = {"lineage": asdict(lineage), "studies": self.studies, "heard": self.n_leaked_clips}
        write_json(folder.path / WARM_START_FILE, content)


NO_WARM_START = WarmStart()


def read_warm_start(folder: StudyFolder) -> WarmStart:
    """Return the warm start of a study; an empty one for a study of an older version."""
    if not (folder.path / WARM_START_FILE).exists():
        return NO_WARM_START
    content = read_json(folder.path / WARM_START_FILE)
    lineage = Lineage(**{name: tuple(values) for name, values in content["lineage"].items()})
    return WarmStart(lineage, tuple(content["studies"]), content["heard"])


def make_warm_start(names: Sequence[str], role: str, split: Split, *, allow_leak: bool) -> WarmStart:
    """Return the warm start of a new study from the studies `names` that have its role.

    Raises:
        UserError: a study does not exist or has no copy of its space.
        LineageLeak: the lineage of a study on another split is unknown, or contains speakers or clips of the present
            dev or test without `allow_leak`.
    """
    warm_start = NO_WARM_START
    for name in dict.fromkeys(names):
        folder = find_study(name)
        if folder.summary["role"] != role:
            continue
        read_request(folder).read_space()
        earlier = read_warm_start(folder)
        is_same_split = folder.summary["split"] == split.fingerprint
        n_leaked = 0 if is_same_split else _count_leaked_clips(name, earlier, split, allow_leak)
        warm_start = WarmStart(
            warm_start.lineage.union(earlier.lineage),
            (*warm_start.studies, name),
            warm_start.n_leaked_clips + n_leaked + earlier.n_leaked_clips,
        )
    return warm_start


def _count_leaked_clips(name: str, earlier: WarmStart, split: Split, allow_leak: bool) -> int:
    """Return how many dev and test clips are in the lineage of a study on another split, or their speakers."""
    what = f"--from {name}"
    if earlier.lineage == EMPTY_LINEAGE:
        raise LineageLeak(f"{what}: an older version began the study without recording its lineage; give another study")
    return count_leak(earlier.lineage, split, what, selected_on_dev=True, allow=allow_leak)


def refuse_other_roles(names: Sequence[str], roles: Sequence[str]) -> None:
    """Raise UserError for an earlier study whose role none of the new studies has."""
    for name in names:
        role = find_study(name).summary["role"]
        if role not in roles:
            raise UserError(
                f"--from {name}: it tuned a {role}; give one that tuned a {' or a '.join(sorted(set(roles)))}"
            )


def enqueue_earlier(study: optuna.Study, space: Space, folder: StudyFolder) -> str:
    """Add the trials of the earlier studies to a study, each once; return a description, "" without any.

    Ended trials on the same split whose configuration is in this space are added as finished trials; they are not part
    of the budget. Of other studies the best configurations in this space are enqueued.
    """
    known = {
        trial.user_attrs[ORIGIN_ATTRIBUTE]
        for trial in study.get_trials(deepcopy=False)
        if ORIGIN_ATTRIBUTE in trial.user_attrs
    }
    descriptions = []
    for name in read_warm_start(folder).studies:
        earlier = find_study(name)
        theirs = read_request(earlier).read_space()
        trials = [
            trial for trial in earlier.read_trials() if trial.state in ENDED_STATES and "parameters" in trial.user_attrs
        ]
        same = earlier.summary["split"] == folder.summary["split"] and theirs.objectives == space.objectives
        made = [_convert_trial(trial, name, theirs, space) for trial in trials] if same else []
        finished = [trial for trial in made if trial is not None]
        for trial in finished:
            if trial.user_attrs[ORIGIN_ATTRIBUTE] not in known:
                study.add_trial(trial)
        points = [] if finished else _pick_best_points(trials, name, theirs, space)
        for origin, stored in points:
            if origin not in known:
                study.enqueue_trial(stored, user_attrs={ORIGIN_ATTRIBUTE: origin})
        descriptions.append(f"{name} ({len(finished)} trials, {len(points)} points)")
    return ", ".join(descriptions)


def convert_params(trial: FrozenTrial, theirs: Space, ours: Space) -> StoredParams | None:
    """Return an earlier trial's configuration as Optuna stores it in our space, None if it is outside."""
    try:
        return ours.encode(resolve({**theirs.base, **theirs.decode(trial.params)}).dotted())
    except ValueError:
        return None


def _convert_trial(trial: FrozenTrial, name: str, theirs: Space, ours: Space) -> FrozenTrial | None:
    """Return an earlier trial as a finished one of our space; None if its result could differ there."""
    stored = convert_params(trial, theirs, ours)
    if stored is None or theirs.resolve_settings(theirs.decode(trial.params)) != ours.resolve_settings(
        ours.decode(stored)
    ):
        return None
    metrics = rename_former(trial.user_attrs.get("metrics", {}))
    if any(limit.metric not in metrics for limit in ours.constraints):
        return None
    domains = {axis.name: axis.distribution for axis in ours.axes if axis.name in stored}
    return create_trial(
        state=trial.state,
        values=trial.values if trial.state == TrialState.COMPLETE else None,
        params=stored,
        distributions=domains,
        intermediate_values=trial.intermediate_values,
        constraints={limit.metric: limit.compute_excess(metrics[limit.metric]) for limit in ours.constraints},
        user_attrs={ORIGIN_ATTRIBUTE: f"{name}/{trial.number}"},
    )


def _pick_best_points(
    trials: Sequence[FrozenTrial], name: str, theirs: Space, ours: Space
) -> list[tuple[str, StoredParams]]:
    """Return the best complete configurations that are in our space, as (origin, stored parameters)."""
    sign = -1 if theirs.objectives[0].direction == "maximize" else 1
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    ranked = sorted(complete, key=lambda trial: sign * trial.values[0])
    fitting = [(f"{name}/{trial.number}", convert_params(trial, theirs, ours)) for trial in ranked]
    return [(origin, stored) for origin, stored in fitting if stored][:MAX_POINTS_PER_STUDY]
