"""The help of every verb: one sentence, described options, two examples; and the width of tables."""

import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ser_platform.cli import COMPARE, DATA, MAINTAIN, TRAIN, USE, app, main
from ser_platform.cli.output import fit_widths, print_table

WORDS = "many long words that are wrapped between two words and never within one of them"


def list_verbs(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the words and the command of every verb, those of groups included."""
    for name, each in getattr(command, "commands", {}).items():
        yield from list_verbs(each, *path, name) if hasattr(each, "commands") else [((*path, name), each)]


VERBS = dict(list_verbs(typer.main.get_command(app)))


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_the_help_of_a_verb_is_one_sentence_and_two_examples(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*words, "--help"], prog_name="ser", env={"COLUMNS": "80"})
    lines = [line.strip() for line in done.output.splitlines()]
    examples = [line for line in lines if line.startswith("ser ")]
    assert len(examples) == 2
    assert all(line.startswith(f"ser {words[0]}") and set(words) <= set(line.split()) for line in examples)
    assert max(map(len, done.output.splitlines())) <= 80
    sentence = VERBS[words].help.partition("\f")[0].strip()
    assert sentence.endswith((".", ".)")) and sentence.count(". ") == 0


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_each_option_has_a_description(words: tuple[str, ...]) -> None:
    undescribed = [parameter.name for parameter in VERBS[words].params if not getattr(parameter, "help", None)]
    assert undescribed == []


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_the_help_of_a_verb_names_values_and_no_types(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["ser", *words, "--help"])
    with pytest.raises(SystemExit):
        main()
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Show this message and exit." in printed
    assert not re.search(r"<[a-z ]+>", printed), "a type, like <bool>"


def test_the_help_groups_the_verbs_in_order_of_use() -> None:
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).output
    places = [text.index(f" {panel} ") for panel in (DATA, TRAIN, COMPARE, USE, MAINTAIN)]
    assert places == sorted(places)


@pytest.mark.parametrize(("columns", "limit"), [("80", 80), ("200", 100), ("", 100)])
def test_a_table_in_a_log_is_at_most_100_columns_wide(
    columns: str, limit: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    print_table("A table", ["name", "text", "more"], [["seed_stacked_bilstm_frames", WORDS, WORDS]])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= limit
    assert set(WORDS.split()) <= set(" ".join(lines).split())


def test_widths_are_those_of_the_cells_where_they_fit_and_divide_words_last() -> None:
    assert fit_widths([["name", "text"], ["ab", "two words"]], 40) == [4, 9]
    assert fit_widths([["name", "text"], ["ab", "two words"]], 10) == [4, 6]
    assert fit_widths([["name"], ["/a/path/that/is/long/and/has/no/spaces"]], 10) == [10]


def test_a_table_prints_file_names_with_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("A table", ["file"], [["[red]x[/b].wav"]])
    assert "[red]x[/b].wav" in capsys.readouterr().out
