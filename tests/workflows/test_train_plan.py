"""`--resume` continues the last training, with the same options or fewer, and refuses other options."""

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


def test_the_same_command_continues_also_on_another_device(begun: TrainRequest) -> None:
    begun.refuse_other_options(plan(workers=2), set())
    begun.refuse_other_options(plan(workers=4, device="cuda"), set())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overrides": {"features.sets": ("mfcc",), "seed": 3}}, "seed was not given, is 3"),
        ({"overrides": {}}, r"features.sets was \['mfcc'\], is not given"),
        ({"data": {"seed": 3}}, "--seed was 0, is 3"),
        ({"data": {"protocol": "loso"}}, "--protocol was speaker, is loso"),
        ({"init": "ser-student@champion"}, "--init was not given, is ser-student@champion"),
    ],
)
def test_other_options_are_refused_by_name(begun: TrainRequest, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        begun.refuse_other_options(plan(**changes), set())


def test_omitted_options_keep_their_values(begun: TrainRequest) -> None:
    bare = TrainRequest("", DataRequest(CorpusRequest("")))
    begun.refuse_other_options(bare, {"role", "data", "overrides", "init", "allow_leak"})
    with pytest.raises(UserError, match="--role was student, is teacher"):
        begun.refuse_other_options(TrainRequest("teacher", bare.data), {"data", "overrides", "init", "allow_leak"})


def test_changed_data_are_refused(begun: TrainRequest) -> None:
    begun.refuse_changed({"split": ["a"]})
    begun.refuse_changed({"split": ["a"]})
    with pytest.raises(UserError, match=r"cannot be resumed, .*split: it was \['a'\], is \['b'\]"):
        begun.refuse_changed({"split": ["b"]})


def test_a_finished_training_cannot_be_resumed(begun: TrainRequest) -> None:
    begun.remove_folder()
    assert not begun.folder.exists()
    with pytest.raises(UserError, match="nothing to resume here"):
        TrainRequest.load_last()
    begun.finished = True
    begun.save()  # as after a kill while the folder is removed
    with pytest.raises(UserError, match="nothing to resume here"):
        TrainRequest.load_last()


def test_an_interrupted_training_can_continue_after_the_start_of_another(begun: TrainRequest) -> None:
    later = plan(name="train-student-later")
    later.save()
    assert TrainRequest.load_last().name == later.name
    with later.hold_lock():  # two trainings run in one folder
        assert TrainRequest.load_last().name == begun.name
        with begun.hold_lock(), pytest.raises(UserError, match="no other can be resumed"):
            TrainRequest.load_last()
    later.remove_folder()
    assert TrainRequest.load_last().name == begun.name


def test_two_processes_do_not_continue_one_training(begun: TrainRequest) -> None:
    with begun.hold_lock(), pytest.raises(UserError, match="is being trained by another process"), begun.hold_lock():
        pass
