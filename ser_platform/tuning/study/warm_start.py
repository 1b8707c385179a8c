"""Warm starts: what earlier studies of the working directory found, shown to the sampler of a new one.

Scores of another split or corpus are not comparable: of such a study only the best configurations are taken, to be
tried first. A study that has heard whom the new one is judged on is refused.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from ser_platform.corpora.lineage import LINEAGE_LEAK_STAMP, Lineage, LineageLeak, count_leak
from ser_platform.corpora.splits.split import Split
from ser_platform.errors import UserError
from ser_platform.files import read_json, write_json
from ser_platform.settings import resolve
from ser_platform.tuning.search_space.space import Space, StoredParams
from ser_platform.tuning.study.request import read_request
from ser_platform.tuning.study.study_folder import StudyFolder, find_study

WARM_START_FILE = "past.json"
ORIGIN_ATTRIBUTE = "from"  # attribute of a trial that stems from an earlier study: STUDY/NUMBER
MAX_POINTS_PER_STUDY = 4  # best configurations taken from a study whose scores are not comparable
EMPTY_LINEAGE = Lineage()
ENDED_STATES = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class WarmStart:
    """What a study descends from: the studies that it starts from, and whom they and it have heard.

    Attributes:
        heard: dev and test clips, or their speakers' clips, that the earlier studies have heard; 0 but by --allow-leak.
    """

    lineage: Lineage = EMPTY_LINEAGE
    studies: tuple[str, ...] = ()
    heard: int = 0

    @property
    def stamp(self) -> str:
        """What is stamped on all that comes of the study."""
        return (
            f" ({LINEAGE_LEAK_STAMP}: its warm start heard {self.heard} dev or test clips or their speakers)"
            if self.heard
            else ""
        )

    def save(self, folder: StudyFolder, split: Split) -> None:
        """Keep it in the folder of a study on this split."""
        lineage = self.lineage.union(Lineage.of_split(split))
        write_json(folder.path / WARM_START_FILE, asdict(replace(self, lineage=lineage)))


NO_WARM_START = WarmStart()


def read_warm_start(folder: StudyFolder) -> WarmStart:
    """Return what a study descends from; nothing of one that an older version began."""
    if not (folder.path / WARM_START_FILE).exists():
        return NO_WARM_START
    content = read_json(folder.path / WARM_START_FILE)
    lineage = Lineage(**{name: tuple(values) for name, values in content["lineage"].items()})
    return WarmStart(lineage, tuple(content["studies"]), content["heard"])


def make_warm_start(names: Sequence[str], role: str, split: Split, *, allow_leak: bool) -> WarmStart:
    """Return the past of a new study that starts from those of `names` that are of its role.

    Raises:
        UserError: there is no such study, it keeps no copy of its space, or it does not say whom it has heard.
        LineageLeak: it has heard speakers or clips of the present dev or test, and `allow_leak` is not set.
    """
    past = NO_WARM_START
    for name in dict.fromkeys(names):
        folder = find_study(name)
        if folder.summary["role"] != role:
            continue
        read_request(folder).read_space()
        earlier = read_warm_start(folder)
        n_leaked = (
            0 if folder.summary["split"] == split.fingerprint else _count_leaked_clips(name, earlier, split, allow_leak)
        )
        past = WarmStart(
            past.lineage.union(earlier.lineage), (*past.studies, name), past.heard + n_leaked + earlier.heard
        )
    return past


def _count_leaked_clips(name: str, earlier: WarmStart, split: Split, allow_leak: bool) -> int:
    """Return how many dev and test clips a study on another split has heard, or their speakers."""
    what = f"--from {name}"
    if earlier.lineage == EMPTY_LINEAGE:
        raise LineageLeak(f"{what}: an older version began it; it does not say whom it has heard")
    return count_leak(earlier.lineage, split, what, selected_on_dev=True, allow=allow_leak)


def refuse_other_roles(names: Sequence[str], roles: Sequence[str]) -> None:
    """Refuse an earlier study whose role none of the new studies has.

    Raises:
        UserError: names it.
    """
    for name in names:
        role = find_study(name).summary["role"]
        if role not in roles:
            raise UserError(
                f"--from {name}: it tuned a {role}; give one that tuned a {' or a '.join(sorted(set(roles)))}"
            )


def enqueue_earlier(study: optuna.Study, space: Space, folder: StudyFolder) -> str:
    """Show a study's sampler what the earlier studies found, each trial once; return it in words, "" without any.

    Trials that ended on the same split and whose configuration is one of this space become finished trials that are not
    counted as the study's own. Of other studies the best configurations that fit are tried first.
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
    """Return an earlier trial's configuration as Optuna stores it in our space, None where it is outside."""
    try:
        return ours.encode(resolve({**theirs.base, **theirs.decode(trial.params)}).dotted())
    except ValueError:
        return None


def _convert_trial(trial: FrozenTrial, name: str, theirs: Space, ours: Space) -> FrozenTrial | None:
    """Return an earlier trial as a finished one of our space; None where it would have come out otherwise."""
    stored = convert_params(trial, theirs, ours)
    if stored is None or theirs.resolve_settings(theirs.decode(trial.params)) != ours.resolve_settings(
        ours.decode(stored)
    ):
        return None
    metrics = trial.user_attrs.get("metrics", {})
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
    """Return the best complete configurations that fit our space, with their origin."""
    sign = -1 if theirs.objectives[0].direction == "maximize" else 1
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    ranked = sorted(complete, key=lambda trial: sign * trial.values[0])
    fitting = [(f"{name}/{trial.number}", convert_params(trial, theirs, ours)) for trial in ranked]
    return [(origin, stored) for origin, stored in fitting if stored][:MAX_POINTS_PER_STUDY]
