"""The ledger counts the models that were evaluated on a test set."""

from ser_platform.evaluation.test_ledger import count_test_evaluations, record_test_evaluation
from ser_platform.settings import home

CLIPS, OTHERS = "ab" * 32, "cd" * 32


def test_a_new_ledger_counts_no_model():
    assert count_test_evaluations(CLIPS) == 0


def test_the_same_model_counts_once():
    assert record_test_evaluation(CLIPS, "model-1", "student") == 1
    assert record_test_evaluation(CLIPS, "model-1", "student again") == 1
    assert count_test_evaluations(CLIPS) == 1


def test_two_models_count_two():
    assert [record_test_evaluation(CLIPS, model, "student") for model in ("model-1", "model-2", "model-1")] == [1, 2, 2]
    assert count_test_evaluations(CLIPS) == 2


def test_each_test_set_has_its_own_count():
    record_test_evaluation(CLIPS, "model-1", "student")
    assert (count_test_evaluations(CLIPS), count_test_evaluations(OTHERS)) == (1, 0)


def test_the_ledger_is_stored_in_ser_home():
    record_test_evaluation(CLIPS, "model-1", "student")
    assert len(list((home() / "ledger").glob("*.jsonl"))) == 1


def test_a_line_cut_short_by_a_kill_hides_no_other_line():
    record_test_evaluation(CLIPS, "model-1", "student")
    (ledger,) = (home() / "ledger").glob("*.jsonl")
    with ledger.open("a") as file:
        file.write('{"model": "mod')
    assert count_test_evaluations(CLIPS) == 1
    assert record_test_evaluation(CLIPS, "model-2", "student") == 2
    assert count_test_evaluations(CLIPS) == 2
