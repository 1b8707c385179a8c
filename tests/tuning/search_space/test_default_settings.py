"""What a training starts from."""

from ser_platform.models import with_sizes
from ser_platform.settings import resolve
from ser_platform.tuning.search_space.default_settings import start_of


def test_a_student_is_smaller_than_a_teacher_of_the_same_architecture():
    teacher, student = (with_sizes(resolve(start_of(role, {}))) for role in ("teacher", "student"))
    assert student["model.width"] < teacher["model.width"]
    assert student["model.hidden_size"] < teacher["model.hidden_size"]


def test_another_architecture_has_its_own_sizes():
    start = start_of("student", {"model.name": "separable_cnn"})
    assert not {"model.width", "model.hidden_size"} & start.keys()
