"""The test ledger: who has looked at a set of test clips, and how often.

Every look at a test set makes the next figure a little less independent of it, so the count stands beside each test
figure and a gate divides its level by it. The ledger lies under `SER_HOME`, a JSON line a look, by the fingerprint of
clips and labels.
"""

import fcntl
import json
import time

from ser_platform.settings import home


def record_test_evaluation(test_fingerprint: str, model_key: str, description: str) -> int:
    """Note that a model was scored on the test clips; return how many different models have been."""
    path = home() / "ledger" / f"{test_fingerprint[:24]}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # two studies may end at once
        file.seek(0)
        text = file.read()
        models = _parse_models(text)
        file.truncate(text.rfind("\n") + 1)  # a line torn by a kill would spoil the one behind it
        if model_key not in models:
            entry = {
                "model": model_key,
                "what": description,
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            file.write(json.dumps(entry) + "\n")
    return len(models | {model_key})


def count_test_evaluations(test_fingerprint: str) -> int:
    """Return how many different models were scored on the test clips."""
    path = home() / "ledger" / f"{test_fingerprint[:24]}.jsonl"
    if not path.exists():
        return 0
    return len(_parse_models(path.read_text(encoding="utf-8")))


def _parse_models(text: str) -> set[str]:
    return {json.loads(line)["model"] for line in text.splitlines(keepends=True) if line.endswith("\n")}
