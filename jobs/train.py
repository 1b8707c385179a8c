"""`ser train` as a job on a Ray cluster. `ser submit train ARGS` sends it; without the platform on this machine:

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/train.py teacher --workers 4 \
        --device cuda --corpus /speech/emodb --set model.name=pretrained --set model.tuning=full

Without --workers the training has a worker for each GPU of the cluster, or one for each node if it has no GPU. `runs/`
and, if MLFLOW_TRACKING_URI is not set, `mlflow.db` are in SER_HOME/jobs/NAME of the head node.
"""

import os
import sys

from ser_platform.cli import main
from ser_platform.tuning.execution.job_submission import enter_job_folder


def add_workers(words: list[str]) -> list[str]:
    """Return the words of the command, with the cluster's number of workers where they contain none."""
    if any(word.partition("=")[0] in ("--workers", "--resume", "--help") for word in words):
        return words
    from ser_platform.tuning.execution.cluster import connect_cluster
    from ser_platform.tuning.execution.distributed_fit import count_offered_workers

    with connect_cluster():
        return [*words, "--workers", str(count_offered_workers())]


if __name__ == "__main__":
    os.environ.setdefault("RAY_ADDRESS", "auto")  # the cluster that the job runs on
    words = enter_job_folder(sys.argv[1:])
    sys.argv = ["ser", "train", *add_workers(words)]
    main()
