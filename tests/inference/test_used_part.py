"""One line names the part of a long clip that a prediction is for."""

from pathlib import Path

import pytest

from ser_platform.inference.predictor import Prediction
from ser_platform.inference.used_part import describe_cut_clips


def predict_part(start_s, end_s, duration_s, name="meeting.wav"):
    return Path(name), Prediction("anger", {"anger": 1.0}, (start_s, end_s), duration_s)


@pytest.mark.parametrize(
    ("used", "duration", "expected"),
    [
        ((58.0, 62.0), 120.0, "meeting.wav is 2:00 long; the prediction is for its middle 4 s"),
        ((0.0, 4.0), 7.5, "meeting.wav is 7.5 s long; the prediction is for its first 4 s"),
        ((2.0, 6.0), 65.2, "meeting.wav is 1:05 long; the prediction is for its part from 2 s to 6 s"),
    ],
)
def test_the_part_of_a_long_clip_is_named(used, duration, expected):
    assert describe_cut_clips([predict_part(*used, duration)], 4.0) == expected


@pytest.mark.parametrize(("used", "duration"), [((0.0, 3.0), 3.0), ((0.0, 4.0), 4.05), ((0.5, 2.0), 3.0)])
def test_a_clip_that_fits_and_one_whose_ends_are_trimmed_need_no_note(used, duration):
    assert describe_cut_clips([predict_part(*used, duration)], 4.0) is None


def test_of_several_files_the_number_of_long_ones_is_stated_in_one_line():
    note = describe_cut_clips([predict_part(0, 4, 9), predict_part(0, 2, 2), predict_part(3, 7, 10)], 4.0)
    assert note is not None and note.startswith("2 of 3 files are longer than 4 s") and "\n" not in note
