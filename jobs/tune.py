"""`ser tune` as a job on a Ray cluster. `ser submit tune ARGS` sends it; without the platform on this machine:

    ray job submit --address http://HEAD:8265 --working-dir . -- python jobs/tune.py student --corpus /speech/emodb

--corpus is a path on the head node. Runs are logged to MLFLOW_TRACKING_URI if it is set, else to `mlflow.db` in
SER_HOME/jobs/NAME of that node, where NAME is the job's submission id; `runs/` is in the same folder.
"""

import os
import sys

from ser_platform.cli import main
from ser_platform.tuning.execution.job_submission import enter_job_folder

if __name__ == "__main__":
    os.environ.setdefault("RAY_ADDRESS", "auto")  # the cluster that the job runs on
    words = enter_job_folder(sys.argv[1:])
    sys.argv = ["ser", "tune", *words]
    main()
