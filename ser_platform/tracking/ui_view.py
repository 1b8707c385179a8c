"""The saved view of an experiment in the MLflow UI: the columns in which trials are compared.

The UI reads a view from the tag `mlflow.sharedViewState.KEY` of the experiment, with KEY from the address of the page;
its button "Share" writes the same tag (MLflow 3).
"""

import json

VIEW_KEY = "ser"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
VIEW_METRICS = ("best_dev_uar", "parameters", "forward_ms", "epochs", "train_seconds")
VIEW_PARAMS = ("model.name", "features.sets", "data.max_seconds", "distill.alpha", "distill.temperature")
_VIEW_STATE = {
    "selectedColumns": [
        *(f"metrics.`{name}`" for name in VIEW_METRICS),
        *(f"params.`{name}`" for name in VIEW_PARAMS),
        "tags.`state`",
    ],
    "orderByKey": "metrics.`best_dev_uar`",
    "orderByAsc": False,
    "searchFilter": "",
    "lifecycleFilter": "Active",
    "modelVersionFilter": "All Runs",
    "datasetsFilter": [],
    "startTime": "ALL",
}
# The second tag selects the UI for trained models, not the one for applications of language models.
EXPERIMENT_TAGS = {VIEW_TAG: json.dumps(_VIEW_STATE), "mlflow.experimentKind": "custom_model_development"}


def make_view_path(experiment_id: str) -> str:
    """Return the path of the page with an experiment's view, to be appended to the URL of the server."""
    return f"/#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW_KEY}"
