"""A warm start adds results of earlier studies, and refuses studies with dev or test clips in their lineage."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.corpora.lineage import Lineage, LineageLeak
from ser_platform.corpora.manifest import Manifest, Utterance
from ser_platform.corpora.splits.split import Split
from ser_platform.errors import UserError
from ser_platform.features.dataset import DataRequest
from ser_platform.tuning.search_space.space import Space
from ser_platform.tuning.search_space.yaml_file import parse_space
from ser_platform.tuning.study.request import StudyRequest
from ser_platform.tuning.study.study_folder import StudyFolder
from ser_platform.tuning.study.warm_start import (
    MAX_POINTS_PER_STUDY,
    ORIGIN_ATTRIBUTE,
    WarmStart,
    enqueue_earlier,
    make_warm_start,
    read_warm_start,
    refuse_other_roles,
)
from tests.tuning.study_folders import create_study_folder

SPACE = """\
role: student
base: {model.name: bilstm, train.epochs: 10}
space:
  model.hidden_size: {choice: [16, 32, 64]}
  optimizer.lr: {loguniform: [1.0e-3, 1.0e-1]}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def split_of(train: str, dev: str, test: str, seed: int = 0) -> Split:
    """A split of speakers a to f, each with a clip of two emotions."""
    clips = [
        Utterance(
            id=f"{name}-{emotion}", path=Path(f"{name}{emotion}.wav"), corpus="made", speaker=name, emotion=emotion
        )
        for name in "abcdef"
        for emotion in ("anger", "sadness")
    ]
    manifest = Manifest.from_utterances(clips)
    speakers = np.array(manifest.column("speaker"))
    rows = [np.flatnonzero(np.isin(speakers, list(part))).astype(np.int64) for part in (train, dev, test)]
    return Split(manifest, *rows, seed=seed)


SAME = split_of("abcd", "e", "f")


def space_of(text: str = SPACE) -> Space:
    return parse_space(Path("made.yaml"), text)


def study_of(split: Split, text: str = SPACE, past: WarmStart | None = None) -> StudyFolder:
    """Create a study as `ser tune` does."""
    folder = create_study_folder("made", role="student", corpus="made", split=split.fingerprint)
    StudyRequest("made.yaml", text, DataRequest(CorpusRequest("made"))).save(folder)
    (past or WarmStart()).save(folder, split)
    return folder


def add_trials(folder: StudyFolder, *trials: tuple[dict, float], state: TrialState = TrialState.COMPLETE) -> None:
    """Add trials (parameters, score) to a study."""
    study, space = folder.open_study(), space_of((folder.path / "space.yaml").read_text())
    domains = {axis.name: axis.distribution for axis in space.axes}
    for params, score in trials:
        study.add_trial(
            create_trial(
                state=state,
                value=score if state == TrialState.COMPLETE else None,
                params=params,
                distributions={name: domains[name] for name in params},
                intermediate_values={1: score},
                user_attrs={"parameters": 900, "metrics": {"parameters": 900, "dev_uar": score}},
            )
        )


def start(folder: StudyFolder, space: Space) -> tuple[optuna.Study, str]:
    study = folder.open_study()
    return study, enqueue_earlier(study, space, folder)


def make_params(size: int, lr: float = 0.01) -> dict:
    return {"model.hidden_size": size, "optimizer.lr": lr}


def start_from(earlier: StudyFolder, split: Split = SAME, text: str = SPACE) -> StudyFolder:
    return study_of(split, text, make_warm_start([earlier.name], "student", split, allow_leak=False))


def test_scores_on_the_same_split_become_trials_outside_the_budget():
    earlier = study_of(SAME)
    add_trials(earlier, (make_params(16), 0.4), (make_params(64), 0.6))
    add_trials(earlier, (make_params(32), 0.2), state=TrialState.PRUNED)
    study, description = start(start_from(earlier), space_of())
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2 + [TrialState.PRUNED]
    assert [trial.values for trial in study.trials[:2]] == [[0.4], [0.6]]
    assert study.trials[2].intermediate_values == {1: 0.2}
    assert all("parameters" not in trial.user_attrs for trial in study.trials)
    assert study.trials[1].user_attrs == {ORIGIN_ATTRIBUTE: f"{earlier.name}/1"}
    assert description == f"{earlier.name} (3 trials, 0 points)"


def test_resuming_adds_no_trial_twice():
    earlier = study_of(SAME)
    add_trials(earlier, (make_params(16), 0.4))
    other = study_of(SAME, SPACE.replace("epochs: 10", "epochs: 20"))
    add_trials(other, (make_params(64), 0.9))
    past = make_warm_start([earlier.name, other.name], "student", SAME, allow_leak=False)
    folder = study_of(SAME, past=past)
    for _ in range(2):
        study, _ = start(folder, space_of())
        assert len(study.trials) == 2
    study.ask()  # the point is being tried now
    study, _ = start(folder, space_of())
    assert len(study.trials) == 2


def test_configurations_outside_the_present_space_are_left_out():
    earlier = study_of(SAME)
    add_trials(earlier, (make_params(16), 0.4), (make_params(64), 0.6), (make_params(16, 0.09), 0.7))
    narrow = SPACE.replace("[16, 32, 64]", "[8, 16]").replace("1.0e-1", "5.0e-2")
    study, _ = start(start_from(earlier, text=narrow), space_of(narrow))
    assert [trial.params for trial in study.trials] == [make_params(16)]


def test_a_setting_that_was_fixed_before_has_its_fixed_value():
    earlier = study_of(SAME)
    add_trials(earlier, (make_params(16), 0.4))
    wider = SPACE + "  train.epochs: {choice: [10, 20]}\n"
    study, _ = start(start_from(earlier, text=wider), space_of(wider))
    assert [trial.params for trial in study.trials] == [make_params(16) | {"train.epochs": 10}]


def test_if_other_settings_differ_the_best_configurations_are_enqueued():
    earlier = study_of(SAME, SPACE.replace("epochs: 10", "epochs: 20"))
    add_trials(earlier, *((make_params(16, 0.001 * (n + 1)), n / 10) for n in range(MAX_POINTS_PER_STUDY + 2)))
    study, description = start(start_from(earlier), space_of())
    assert all(trial.state == TrialState.WAITING for trial in study.trials)
    assert [study.ask().user_attrs[ORIGIN_ATTRIBUTE] for _ in range(MAX_POINTS_PER_STUDY)] == [
        f"{earlier.name}/{n}" for n in range(MAX_POINTS_PER_STUDY + 1, 1, -1)
    ]
    assert description == f"{earlier.name} (0 trials, {MAX_POINTS_PER_STUDY} points)"


def test_the_constraints_of_the_present_space_apply_to_earlier_trials():
    earlier = study_of(SAME)
    add_trials(earlier, (make_params(16), 0.4))
    limited = SPACE + "constraints: [{metric: parameters, at_most: 500}]\n"
    study, _ = start(start_from(earlier, text=limited), space_of(limited))
    assert study.trials[0].constraints == {"parameters": 400}


@pytest.mark.parametrize(("train", "dev", "test"), [("abcf", "e", "d"), ("abce", "f", "d"), ("abcd", "f", "e")])
def test_a_study_with_dev_or_test_clips_in_its_lineage_is_refused(train, dev, test):
    earlier = study_of(split_of(train, dev, test))
    with pytest.raises(
        LineageLeak, match=rf"--from {earlier.name} was trained or selected on 2 of the 2 .* \([ef]\).*--allow-leak"
    ):
        make_warm_start([earlier.name], "student", SAME, allow_leak=False)
    past = make_warm_start([earlier.name], "student", SAME, allow_leak=True)
    assert past.n_leaked_clips >= 2
    assert f"used {past.n_leaked_clips} dev or test clips" in past.stamp


def test_the_lineage_includes_that_of_earlier_studies():
    first = study_of(split_of("abcf", "d", "e"))
    other = study_of(split_of("a", "b", "c"), past=read_warm_start(first))
    with pytest.raises(LineageLeak, match="was trained or selected on"):
        make_warm_start([other.name], "student", SAME, allow_leak=False)


def test_a_stamp_is_inherited_on_the_same_split():
    earlier = study_of(SAME, past=WarmStart(n_leaked_clips=3))
    assert make_warm_start([earlier.name], "student", SAME, allow_leak=False).n_leaked_clips == 3


def test_a_study_on_other_speakers_is_accepted_and_its_lineage_is_kept():
    earlier = study_of(split_of("ab", "c", "d"))
    add_trials(earlier, (make_params(64), 0.6))
    folder = start_from(earlier)
    assert read_warm_start(folder).studies == (earlier.name,)
    assert set(read_warm_start(folder).lineage.trained_speakers) == set("abcd")
    study, _ = start(folder, space_of())
    assert [trial.state for trial in study.trials] == [TrialState.WAITING]


def test_a_study_without_a_lineage_is_refused():
    earlier = study_of(split_of("ab", "c", "d"))
    (earlier.path / "past.json").unlink()
    with pytest.raises(LineageLeak, match="without recording its lineage"):
        make_warm_start([earlier.name], "student", SAME, allow_leak=True)


def test_an_unknown_study_and_one_of_another_role_are_refused():
    earlier = study_of(SAME)
    with pytest.raises(UserError, match="unknown study 'nowhere'"):
        make_warm_start(["nowhere"], "student", SAME, allow_leak=False)
    with pytest.raises(UserError, match="it tuned a student; give one that tuned a teacher"):
        refuse_other_roles([earlier.name], ["teacher"])
    refuse_other_roles([earlier.name], ["teacher", "student"])


def test_a_study_without_a_warm_start_has_only_its_own_lineage():
    folder = study_of(SAME)
    assert asdict(read_warm_start(folder).lineage) == asdict(Lineage.of_split(SAME))
    assert (read_warm_start(folder).studies, read_warm_start(folder).stamp) == ((), "")
    study, description = start(folder, space_of())
    assert (study.trials, description) == ([], "")
