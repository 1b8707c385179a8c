"""Saved views of an experiment in the MLflow UI: the columns and the chart in which trials are compared.

The UI reads a view from the tag `mlflow.sharedViewState.KEY` of the experiment, with KEY from the address of the page,
and lists those with a name as saved views (MLflow 3.17). Its settings are in `mlflow/server/js`, not in the documented
API.
"""

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ser_platform.tracking.retrying_client import RetryingClient

NEWEST_VIEW = "ser"
VIEW_PREFIX = "mlflow.sharedViewState."
NEWEST_TAG = VIEW_PREFIX + NEWEST_VIEW
DISTILL_PARAMS = ("distill.alpha", "distill.temperature")
MAIN_PARAMS = ("model.name", "features.sets", "data.max_seconds", *DISTILL_PARAMS)  # have a chart of their own
VIEW_METRICS = ("parameters", "forward_ms", "epochs", "train_seconds")
COLUMN_WIDTHS = {"tags.`role`": 70, "tags.`study`": 220, "params.`distill.temperature`": 130}  # pixels
# Selects the UI for trained models, not the one for applications of language models, which every address must repeat.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
WORKFLOW = "workflowType=machine_learning"
EXPERIMENTS_PATH = f"/#/experiments?{WORKFLOW}"


def make_view_tags(study: str, role: str, axes: Sequence[str]) -> dict[str, str]:
    """Return the tags of an experiment for its newest study, which searches the settings `axes`.

    One view has the trials of the study, another those of all studies of its role; the first only without axes.
    """
    views = {NEWEST_TAG: (f"newest study, {study}", f'tags.study = "{study}"')}
    if axes:
        views[f"{NEWEST_TAG}-{role}"] = (f"all {role} trials", f'tags.role = "{role}"')
    now, tags = int(1000 * time.time()), {}
    for tag, (name, studies) in views.items():
        state = _make_state(f'{studies} AND tags.trial != ""', role, axes)
        tags[tag] = json.dumps({"name": name, "createdAt": now, "state": json.dumps(state)})
    return tags


def _make_state(search_filter: str, role: str, axes: Sequence[str]) -> dict[str, Any]:
    """Return the state of the page: a table of trials, best first, and charts of the searched settings."""
    main = [name for name in MAIN_PARAMS if name in axes]
    distill = DISTILL_PARAMS if role == "student" else ()
    columns = [
        "metrics.`best_dev_uar`",
        *(f"params.`{name}`" for name in distill),
        "tags.`role`",
        "tags.`study`",
        *(f"params.`{name}`" for name in dict.fromkeys((*main, *axes)) if name not in distill),
        "tags.`state`",
        *(f"metrics.`{name}`" for name in VIEW_METRICS),
    ]
    searched = {"Main settings": main, "All searched settings": list(axes)}
    charts = {name: params for name, params in searched.items() if params}
    return {
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": COLUMN_WIDTHS,
        "compareRunCharts": [_make_chart(name, params) for name, params in charts.items()],
        "compareRunSections": [
            {"uuid": name, "name": name, "display": True, "columns": 1, "cardHeight": 500} for name in charts
        ],
        "isAccordionReordered": True,
        "orderByKey": "metrics.`best_dev_uar`",
        "orderByAsc": False,
        "searchFilter": search_filter,
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "startTime": "ALL",
    }


def _make_chart(name: str, params: Sequence[str]) -> dict[str, Any]:
    """Return parallel coordinates of params and dev UAR, in the section `name`."""
    return {
        "type": "PARALLEL",
        "uuid": f"{name}, chart",
        "metricSectionId": name,
        "selectedParams": params,
        "selectedMetrics": ["best_dev_uar"],
        "showAllRuns": True,
        "deleted": False,
        "isGenerated": False,
    }


def make_view_path(experiment_id: str, view: str = NEWEST_VIEW, *, as_chart: bool = False) -> str:
    """Return the path of the page with a view of an experiment, to be appended to the URL of the server."""
    mode = "&compareRunsMode=CHART" if as_chart else ""
    return f"/#/experiments/{experiment_id}/runs?viewStateShareKey={view}&{WORKFLOW}{mode}"


def list_links(client: "RetryingClient", url: str) -> list[str]:
    """Return the pages of the UI at `url`, a line each; the first is the address of the newest study alone."""
    experiments = {each.experiment_id: each for each in client.search_experiments() if NEWEST_TAG in each.tags}
    newest_first = ["attributes.start_time DESC"]
    runs = client.search_runs(list(experiments), order_by=newest_first, max_results=1) if experiments else []
    if not runs:
        return [url + EXPERIMENTS_PATH]
    newest = runs[0].info.experiment_id
    lines = [url + make_view_path(newest), f"its settings as a chart: {url}{make_view_path(newest, as_chart=True)}"]
    for experiment in sorted(experiments.values(), key=lambda each: each.experiment_id != newest):
        for tag in sorted(tag for tag in experiment.tags if tag.startswith(NEWEST_TAG)):
            if (experiment.experiment_id, tag) != (newest, NEWEST_TAG):
                view, name = tag.removeprefix(VIEW_PREFIX), json.loads(experiment.tags[tag]).get("name", "all trials")
                lines.append(f"{experiment.name}, {name}: {url}{make_view_path(experiment.experiment_id, view)}")
    return lines
