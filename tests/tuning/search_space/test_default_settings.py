"""Default settings by role and model."""

from ser_platform.models import fill_default_sizes
from ser_platform.settings import resolve
from ser_platform.tuning.search_space.default_settings import choose_defaults


def test_a_student_is_smaller_than_a_teacher_of_the_same_architecture():
    teacher, student = (fill_default_sizes(resolve(choose_defaults(role, {}))) for role in ("teacher", "student"))
    assert student.model.width < teacher.model.width
    assert student.model.hidden_size < teacher.model.hidden_size


def test_the_student_sizes_are_of_the_default_architecture_alone():
    start = choose_defaults("student", {"model.name": "separable_cnn"})
    assert not {"model.width", "model.hidden_size"} & start.keys()
