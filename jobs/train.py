"""`ser train` as a job on a Ray cluster: SER_HOME, the corpus and the working directory lie on shared storage.

    ray job submit --address http://HEAD:8265 -- python /shared/ser/jobs/train.py teacher --workers 4 --device cuda \
        --corpus /shared/speech/emodb --set model.name=pretrained --set model.tuning=full

Without --workers the training takes a worker for each GPU of the cluster, and one a node where it has none. The job
starts in the working directory: run it there again with `--resume`, and a training that was cut off goes on. Runs go to
MLFLOW_TRACKING_URI when it is set, else to `mlflow.db` in that directory.
"""

import os
import sys

from ser_platform.cli import main


def words_of_cluster(words: list[str]) -> list[str]:
    """Return the words of the command with the workers that the cluster offers, where they name none."""
    if any(word.partition("=")[0] in ("--workers", "--resume", "--help") for word in words):
        return words
    from ser_platform.tuning.cluster import cluster
    from ser_platform.tuning.distributed import offered_workers

    with cluster():
        return [*words, "--workers", str(offered_workers())]


if __name__ == "__main__":
    os.environ.setdefault("RAY_ADDRESS", "auto")  # the cluster that the job runs on
    sys.argv = ["ser", "train", *words_of_cluster(sys.argv[1:])]
    main()
