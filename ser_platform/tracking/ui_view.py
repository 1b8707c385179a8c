"""The columns that are worth comparing, saved with an experiment as MLflow's page saves a view that is shared.

The page reads a view from a tag of the experiment, by the key in its address (`mlflow.sharedViewState.KEY`, written by
its own button "Share"; MLflow 3).
"""

import json

VIEW_KEY = "ser"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
VIEW_METRICS = ("best_dev_uar", "parameters", "latency_ms", "epochs", "train_seconds")
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
# The second says that these are trained models, not applications of language models.
EXPERIMENT_TAGS = {VIEW_TAG: json.dumps(_VIEW_STATE), "mlflow.experimentKind": "custom_model_development"}


def view_path(experiment_id: str) -> str:
    """Return the address of an experiment's view, behind that of the server."""
    return f"/#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW_KEY}"
