import json
import re
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.features.dataset import DataRequest
from ser_platform.tuning.report.figures import draw_history
from ser_platform.tuning.report.study_report import StudyReport, write_report
from ser_platform.tuning.study.request import StudyRequest, read_request
from ser_platform.tuning.study.study_folder import STUDY_FINISHED, STUDY_INTERRUPTED, StudyFolder

SPACE = """# ser tune limits: how long must a clip be?
role: student
objective: [{metric: dev_uar, direction: maximize}, {metric: parameters, direction: minimize}]
sampler: {name: random, seed: 3}
scheduler: {name: none}
"""


def make_study(path, n_trials, **summary):
    """Create a study in which a clip limit above 2 s has no effect; every fourth trial is pruned after an epoch."""
    folder = StudyFolder(path / "limits-demo")
    folder.path.mkdir(parents=True)
    folder.update(**({"name": folder.name, "state": STUDY_FINISHED, "corpus": "demo", "metrics": {}} | summary))
    StudyRequest(str(folder.path / "limits.yaml"), SPACE, DataRequest(CorpusRequest("demo"))).save(folder)
    study = folder.open_study(optuna.samplers.RandomSampler(seed=0))
    rng = np.random.default_rng(0)
    for _ in range(n_trials):
        trial = study.ask()
        seconds = trial.suggest_float("data.max_seconds", 1.0, 3.0, step=0.5)
        sets = trial.suggest_categorical("features.sets", ["log_mel", "log_mel+zcr", "zcr"])
        norm = trial.suggest_categorical("model.norm", ["batch", "layer"])
        params = {"data.max_seconds": seconds, "features.sets": sets.split("+"), "model.norm": norm}
        score = 0.8 - 0.2 * max(0.0, 2.0 - seconds) + 0.01 * rng.standard_normal()
        is_pruned = trial.number % 4 == 3
        trial.set_user_attr("params", params)
        trial.set_user_attr("parameters", 1000 * (trial.number % 5 + 1))
        for epoch in range(1, 2 if is_pruned else 4):
            trial.report(score - 0.05 * (3 - epoch), epoch)
        trial.set_user_attr("state", "pruned" if is_pruned else "complete")
        trial.set_user_attr("metrics", {"parameters": 1000 * (trial.number % 5 + 1), "train_seconds": 3.0})
        study.tell(trial, state=TrialState.PRUNED) if is_pruned else study.tell(trial, score)
    return folder


def test_the_answer_has_the_important_setting_and_the_cost_of_its_values(tmp_path):
    folder = make_study(tmp_path, 64)
    words = "\n".join(StudyReport.read(folder).summarise())
    assert re.search(r"data\.max_seconds: best near (2|2\.5|3) s .*1 s is 0\.(19|2)\d", words)
    assert "no effect seen in 64 trials: " in words
    assert "model.norm" in words.partition("no effect seen in")[2].splitlines()[0]


def test_the_page_is_self_contained_and_its_figures_are_also_files(tmp_path):
    _, page = write_report(make_study(tmp_path, 40))
    text = page.read_text()
    assert not re.search(r'(?:src|href)="(?!data:)', text.partition("<script")[0])
    assert "<script src" not in text and "default-src 'none'" in text
    assert "how long must a clip be?" in text
    drawn = {path.name for path in page.parent.glob("*.png")}
    assert {"history.png", "importance.png", "axis-data.max_seconds.png", "pareto.png"} <= drawn
    assert all((page.parent / name).read_bytes().startswith(b"\x89PNG") for name in drawn)
    assert [path.name for path in page.parent.parent.glob(".report*")] == []


def test_a_second_report_replaces_the_first(tmp_path):
    folder = make_study(tmp_path, 3)
    _, page = write_report(folder)
    (page.parent / "old.png").touch()
    write_report(folder)
    assert page.exists() and not (page.parent / "old.png").exists()


@pytest.mark.parametrize("n_trials", [0, 1, 4])
def test_the_report_of_few_trials_states_that_importance_is_unknown(tmp_path, n_trials):
    report, page = write_report(make_study(tmp_path, n_trials, state=STUDY_INTERRUPTED))
    assert f"not enough trials to estimate the importance of settings: {n_trials} of 20" in report.summarise()
    assert page.exists()


def test_the_dev_uar_with_new_seeds_is_reported_with_that_of_the_search(tmp_path):
    metrics = {"dev_uar": 0.81, "dev_uar_new_seeds": 0.76, "test_uar": 0.99}
    words = StudyReport.read(make_study(tmp_path, 2, metrics=metrics)).summarise()
    assert any("0.760 with new seeds (0.810 in the search, of which 0.050 was luck)" in line for line in words)
    assert not any("0.99" in line for line in words)


def test_the_ring_marks_the_winner_and_not_the_luckiest_trial_of_the_search(tmp_path):
    confirmed = [{"trial": 8, "search": 0.8, "again": [0.8]}, {"trial": 0, "search": 0.9, "again": [0.7]}]
    report = StudyReport.read(make_study(tmp_path, 12, confirmed=confirmed))
    assert report.winner == 8
    axes = draw_history(report.table, report.winner).axes[0]
    (ring,) = [drawn for drawn in axes.collections if drawn.get_label() == "winner"]
    assert ring.get_offsets().tolist() == [[8, report.table.trials[8].best_dev_uar]]


def test_the_pareto_set_is_of_complete_trials_that_no_other_beats(tmp_path):
    report = StudyReport.read(make_study(tmp_path, 30))
    front = report.pareto_trials
    assert front and all(trial.state == "complete" for trial in front)
    complete = [trial for trial in report.table.scored if trial.state == "complete"]
    for trial in front:
        size = trial.metrics["parameters"]
        assert not any(o.best_dev_uar > trial.best_dev_uar and o.metrics["parameters"] <= size for o in complete)


def test_names_are_escaped(tmp_path):
    folder = make_study(tmp_path, 2, corpus="<script>alert(1)</script>")
    _, page = write_report(folder)
    assert "<script>alert" not in page.read_text()


def test_the_report_for_scripts_is_json(tmp_path):
    content = StudyReport.read(make_study(tmp_path, 24)).as_json()
    assert json.loads(json.dumps(content))["enough_trials"] is True


def test_an_interrupted_trial_counts_with_its_epochs(tmp_path):
    folder = make_study(tmp_path, 0, state=STUDY_INTERRUPTED)
    trial = folder.open_study(optuna.samplers.RandomSampler(seed=0)).ask()
    trial.suggest_float("data.max_seconds", 1.0, 3.0)
    trial.set_user_attr("parameters", 1000)
    trial.report(0.6, 1)
    report = StudyReport.read(folder)
    assert "best so far: trial 0, dev UAR 0.600" in "\n".join(report.summarise())
    assert report.pareto_trials == [], "its final score is unknown"


def test_a_trial_out_of_bounds_is_in_no_pareto_set(tmp_path):
    folder = make_study(tmp_path, 12)
    request = read_request(folder)
    limited = SPACE + "constraints: [{metric: parameters, at_most: 3000}]\n"
    replace(request, text=limited).save(folder)
    chosen = StudyReport.read(folder).pareto_trials
    assert chosen
    assert all(trial.metrics["parameters"] <= 3000 for trial in chosen)
