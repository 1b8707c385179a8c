"""`ser tune` as a job on a Ray cluster: SER_HOME, the corpus and the working directory lie on shared storage.

    ray job submit --address http://HEAD:8265 -- python /shared/ser/jobs/tune.py --corpus /shared/speech/emodb

Runs go to MLFLOW_TRACKING_URI when it is set, else to `mlflow.db` in the directory that the job starts in.
"""

import os
import sys

from ser_platform.cli import main

if __name__ == "__main__":
    os.environ.setdefault("RAY_ADDRESS", "auto")  # the cluster that the job runs on
    sys.argv = ["ser", "tune", *sys.argv[1:]]
    main()
