"""Artefacts and tags of a study's parent run: datasets, settings, figures, tables, files."""

import json
import math
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from ser_platform.corpora.splits.split import Split, fingerprint_clips
from ser_platform.tracking.mlflow_store import Client

VERSIONED = ("torch", "ray", "optuna", "transformers")  # packages whose versions are tags of every run
MAX_DIGEST_CHARS = 36  # MLflow's limit for the digest of a dataset


def make_study_tags(role: str, corpus: str, protocol: str, split: Split, code_version: str) -> dict[str, str]:
    """Return the tags of a study's parent run, which its trials have too; they name the versions that ran it."""
    return {
        "role": role,
        "corpus": corpus,
        "protocol": protocol,
        "manifest": split.manifest.fingerprint,
        "split": split.fingerprint,
        "code_version": code_version,
        "version.python": platform.python_version(),
        **{f"version.{name}": version(name) for name in VERSIONED},
    }


def log_study_results(
    client: Client,
    run_id: str,
    place: str,
    figures: Mapping[str, float],
    tags: Mapping[str, str],
    table: Mapping[str, Sequence[Any]],
    files: Iterable[Path],
) -> None:
    """Log figures and tags to a run, and `table` (columns by name) and `files` into its folder `place`."""
    now = int(time.time() * 1000)
    metrics = [Metric(name, float(value), now, 0) for name, value in figures.items() if math.isfinite(value)]
    client.log_batch(run_id, metrics, tags=[RunTag(name, value) for name, value in tags.items()])
    rows = [list(row) for row in zip(*table.values(), strict=True)]
    # The format of `log_table`, which would append to existing rows where a report is logged again.
    client.log_dict(run_id, {"columns": list(table), "data": rows}, f"{place}/table.json")
    for path in files:
        client.log_artifact(run_id, str(path), place)


def log_datasets(client: Client, run_id: str, split: Split, corpus: str) -> None:
    """Log the parts of a split as datasets of a run, with digests of their clips; a second call changes nothing."""
    inputs = []
    for part, rows in split.parts.items():
        clips = split.manifest.take(rows)
        profile = {"clips": len(clips), "speakers": len(clips.speakers), "emotions": list(clips.labels)}
        dataset = Dataset(
            f"{corpus}, {part}",
            fingerprint_clips(clips)[:MAX_DIGEST_CHARS],
            "ser",
            json.dumps({"corpus": corpus, "protocol": split.protocol_stamp, "split": split.fingerprint}),
            profile=json.dumps(profile),
        )
        inputs.append(DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, part)]))
    client.log_inputs(run_id, inputs)


def log_settings(client: Client, run_id: str, settings: Mapping[str, Any]) -> None:
    """Log settings to a run as `settings.yaml`, with the names that `--set` and search spaces use."""
    client.log_text(run_id, yaml.safe_dump(dict(settings), sort_keys=False), "settings.yaml")
