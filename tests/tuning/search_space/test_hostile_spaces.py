"""Malicious and mistyped search-space files are refused at once, with a message of one line."""

import time
from pathlib import Path

import pytest

from ser_platform.errors import SearchSpaceError
from ser_platform.tuning.search_space.yaml_file import parse_space, read_space

HEAD = "role: student\nbase: {model.name: separable_cnn}\n"
RATE = "space: {optimizer.lr: {loguniform: [1.0e-3, 1.0e-2]}}\n"
HUGE = "9" * 400
SETS = "space: {features.sets: {subset: [log_mel, mfcc]}}\n"
REFUSED = {
    "a metric that is a list": HEAD + RATE + "objective: [{metric: [dev_uar]}]",
    "a set in a set, fixed": HEAD.replace("}", ", features.sets: [[log_mel]]}") + RATE,
    "a set in a set, searched": HEAD + "space: {features.sets: {subset: [[log_mel], mfcc]}}",
    "a mapping as a point": HEAD + SETS + "points: [{features.sets: {a: 1}}]",
    "a list in a condition": HEAD + SETS[:-2] + ", features.n_mfcc: {choice: [13], when: {features.sets: [[mfcc]]}}}",
    "an invalid date": HEAD + RATE + "budget: {trials: 2020-13-45}",
    "a huge choice": HEAD + f"space: {{train.epochs: {{choice: [{HUGE}, 3]}}}}",
    "a huge range": HEAD + f"space: {{train.epochs: {{int: [1, {HUGE}]}}}}",
    "a huge budget": HEAD + RATE + f"budget: {{trials: {HUGE}}}",
    "a number of too many digits": HEAD + RATE + f"budget: {{trials: {HUGE * 20}}}",
    "a huge point": HEAD + RATE + f"points: [{{optimizer.lr: {HUGE}}}]",
    "an infinite point": HEAD + "space: {train.epochs: {int: [1, 5]}}\npoints: [{train.epochs: .inf}]",
    "a step that is almost 0": HEAD + "space: {model.dropout: {uniform: [0.0, 0.5], step: 5.0e-324}}",
    "a word with the tag of a number": HEAD + RATE + "budget: {trials: !!int abc}",
    "a word with the tag of a truth value": HEAD + RATE + "budget: {trials: !!bool abc}",
    "a word with the tag of a time": HEAD + RATE + "budget: {trials: !!timestamp abc}",
    "an object": HEAD + RATE + "budget: {trials: !!python/object:os.system abc}",
    "an alias": "role: student\nspace: &all {model.width: *all}\n",
    "thousands of brackets": HEAD + "space: " + "[" * 3000 + "]" * 3000,
    "a set of many": HEAD + f"space: {{features.sets: {{subset: [{', '.join(f'e{n}.frames' for n in range(26))}]}}}}",
    "a grid of billions": HEAD + "space: {seed: {int: [0, 2147483647]}}\nsampler: {name: grid}",
    "a long list": HEAD + f"space: {{seed: {{choice: [{', '.join(map(str, range(5000)))}]}}}}",
    "a long file": HEAD + RATE + "# " + "x" * 300_000,
    "nothing": "",
    "no mapping": "- role",
    "an unfinished list": "role: [\n  a: b: c",
    "a tab": "role:\n\tstudent",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_it_is_refused_at_once_with_a_message_of_one_line(text):
    began = time.monotonic()
    with pytest.raises(SearchSpaceError) as refusal:
        parse_space(Path("x.yaml"), text)
    assert time.monotonic() - began < 10
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith("x.yaml:")


@pytest.mark.parametrize("number", ["1e1", "10", "10.0"])
def test_every_notation_of_a_number_is_a_number_everywhere(number):
    text = f"role: student\nbase: {{model.name: separable_cnn, train.epochs: {number}}}\n{RATE}"
    assert parse_space(Path("x.yaml"), text).base["train.epochs"] == 10
    fixed = parse_space(Path("x.yaml"), f"{HEAD}space: {{train.epochs: {{fixed: {number}}}}}")
    assert fixed.axes[0].values == (10,)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(SearchSpaceError, match="not a file"):
        read_space(tmp_path)
