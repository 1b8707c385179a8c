"""The test ledger: how many models were evaluated on each set of test clips.

Each test evaluation makes later figures on the same clips less independent of them. The count is printed beside each
test figure, and the UAR gate divides its error level by it. The ledger is a file of JSON lines under `SER_HOME` for
each fingerprint of clips and labels.
"""

import fcntl
import json
import time
from pathlib import Path

from ser_platform.settings import home


def record_test_evaluation(test_fingerprint: str, model_key: str, description: str) -> int:
    """Record that a model was evaluated on test clips; return the number of different models evaluated on them."""
    path = _find_ledger(test_fingerprint)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # two studies may end at the same time
        file.seek(0)
        text = file.read()
        models = _parse_models(text)
        file.truncate(text.rfind("\n") + 1)  # remove a line that a kill cut short
        if model_key not in models:
            entry = {
                "model": model_key,
                "what": description,
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            file.write(json.dumps(entry) + "\n")
    return len(models | {model_key})


def count_test_evaluations(test_fingerprint: str) -> int:
    """Return the number of different models evaluated on test clips."""
    path = _find_ledger(test_fingerprint)
    return len(_parse_models(path.read_text(encoding="utf-8"))) if path.exists() else 0


def _find_ledger(test_fingerprint: str) -> Path:
    return home() / "ledger" / f"{test_fingerprint[:24]}.jsonl"


def _parse_models(text: str) -> set[str]:
    return {json.loads(line)["model"] for line in text.splitlines(keepends=True) if line.endswith("\n")}
