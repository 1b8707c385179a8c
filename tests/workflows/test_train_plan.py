"""`--resume` goes on with the last training, by the same command or less of it, and refuses another."""

import pytest

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.errors import UserError
from ser_platform.features.dataset import DataRequest
from ser_platform.workflows.train_plan import TrainRequest


def plan(**changes: object) -> TrainRequest:
    data = DataRequest(CorpusRequest("demo"), **changes.pop("data", {}))  # type: ignore[arg-type]
    return TrainRequest("student", data, **({"overrides": {"features.sets": ("mfcc",)}} | changes))  # type: ignore[arg-type]


@pytest.fixture
def begun() -> TrainRequest:
    begun = plan(name="train-student-demo", workers=2)
    begun.save()
    return TrainRequest.load_last()


def test_the_same_command_goes_on_also_elsewhere(begun: TrainRequest) -> None:
    begun.refuse_other_options(plan(workers=2), set())
    begun.refuse_other_options(plan(workers=4, device="cuda"), set())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"overrides": {"features.sets": ("mfcc",), "seed": 3}}, "seed was not given, is 3"),
        ({"overrides": {}}, r"features.sets was \['mfcc'\], is not given"),
        ({"data": {"seed": 3}}, "--seed was 0, is 3"),
        ({"data": {"protocol": "loso"}}, "--protocol was speaker, is loso"),
        ({"init": "ser-student@champion"}, "--init was not given, is ser-student@champion"),
    ],
)
def test_another_command_is_refused_and_told_apart(begun: TrainRequest, changes: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        begun.refuse_other_options(plan(**changes), set())


def test_options_that_are_left_out_are_as_they_were(begun: TrainRequest) -> None:
    bare = TrainRequest("", DataRequest(CorpusRequest("")))
    begun.refuse_other_options(bare, {"role", "data", "overrides", "init", "allow_leak"})
    with pytest.raises(UserError, match="--role was student, is teacher"):
        begun.refuse_other_options(TrainRequest("teacher", bare.data), {"data", "overrides", "init", "allow_leak"})


def test_a_changed_world_is_refused(begun: TrainRequest) -> None:
    begun.refuse_changed({"split": ["a"]})
    begun.refuse_changed({"split": ["a"]})
    with pytest.raises(UserError, match=r"cannot be resumed, .*split: it was \['a'\], is \['b'\]"):
        begun.refuse_changed({"split": ["b"]})


def test_a_finished_training_is_nothing_to_resume(begun: TrainRequest) -> None:
    begun.remove_folder()
    assert not begun.folder.exists()
    with pytest.raises(UserError, match="nothing to resume here"):
        TrainRequest.load_last()
    begun.finished = True
    begun.save()  # as a kill leaves it while the folder is removed
    with pytest.raises(UserError, match="nothing to resume here"):
        TrainRequest.load_last()


def test_a_training_that_was_cut_off_can_go_on_though_another_was_begun_after_it(begun: TrainRequest) -> None:
    later = plan(name="train-student-later")
    later.save()
    assert TrainRequest.load_last().name == later.name
    with later.hold_lock():  # two trainings at once in one folder
        assert TrainRequest.load_last().name == begun.name
        with begun.hold_lock(), pytest.raises(UserError, match="no other training was cut off here"):
            TrainRequest.load_last()
    later.remove_folder()
    assert TrainRequest.load_last().name == begun.name


def test_two_processes_do_not_go_on_with_one_training(begun: TrainRequest) -> None:
    with begun.hold_lock(), pytest.raises(UserError, match="is being trained by another process"), begun.hold_lock():
        pass
