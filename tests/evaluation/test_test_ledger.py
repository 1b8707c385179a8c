"""The ledger counts the models that have looked at a test set."""

from ser_platform.evaluation.test_ledger import reads, record_read
from ser_platform.settings import home

CLIPS, OTHERS = "ab" * 32, "cd" * 32


def test_nobody_has_looked_at_first():
    assert reads(CLIPS) == 0


def test_the_same_model_counts_once():
    assert record_read(CLIPS, "model-1", "student") == 1
    assert record_read(CLIPS, "model-1", "student again") == 1
    assert reads(CLIPS) == 1


def test_two_models_count_two():
    assert [record_read(CLIPS, model, "student") for model in ("model-1", "model-2", "model-1")] == [1, 2, 2]
    assert reads(CLIPS) == 2


def test_each_test_set_has_its_own_count():
    record_read(CLIPS, "model-1", "student")
    assert (reads(CLIPS), reads(OTHERS)) == (1, 0)


def test_the_ledger_lies_in_ser_home():
    record_read(CLIPS, "model-1", "student")
    assert len(list((home() / "ledger").glob("*.jsonl"))) == 1


def test_a_line_torn_by_a_kill_hides_nobody():
    record_read(CLIPS, "model-1", "student")
    (ledger,) = (home() / "ledger").glob("*.jsonl")
    with ledger.open("a") as file:
        file.write('{"model": "mod')
    assert reads(CLIPS) == 1
    assert record_read(CLIPS, "model-2", "student") == 2
    assert reads(CLIPS) == 2
