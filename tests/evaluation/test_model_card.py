"""The model card: its title, its answer, its definitions, the licences of its training data, figures by group."""

from ser_platform.evaluation.groups import GroupScore
from ser_platform.evaluation.intervals import Interval
from ser_platform.evaluation.model_card import render_model_card
from ser_platform.settings import resolve

GROUPS = [GroupScore("sex", "female", 5, 40, 0.75), GroupScore("sex", "male", 4, 32, 0.5)]


def render(trained_on: tuple[str, ...] = ("emodb",), groups: list[GroupScore] | None = None, **changes: object) -> str:
    facts = {
        "role": "student",
        "settings": resolve({"model.name": "gru"}),
        "parameters": 7,
        "labels": ("anger", "neutral"),
        "corpus": "emodb",
        "protocol": "speaker",
        "uar": Interval(0.5, 0.4, 0.6, 9, "speakers"),
        "n_test_evaluations": 3,
        "metrics": {"test_uar": 0.5, "test_war": 0.625, "test_recall_anger": 0.25},
        "temperature": 1.25,
        "teacher": None,
    }
    return render_model_card(**(facts | changes), trained_on=trained_on, groups=groups or [])


def test_the_title_states_the_model_and_the_first_sentence_its_test_uar() -> None:
    title, first, *_ = render().split("\n\n")
    assert title == "# Speech emotion recognition: student model `gru`, trained on the corpus `emodb`"
    first = first.replace("\n", " ")
    assert "0.500 (95 % interval 0.400 to 0.600) on the test clips of the corpus `emodb`" in first
    assert "split by the protocol `speaker`" in first


def test_an_interval_over_clips_is_limited_to_its_speakers() -> None:
    assert "0.600, valid for these 2 speakers only)" in render(uar=Interval(0.5, 0.4, 0.6, 2, "clips"))


def test_terms_are_defined_where_they_first_occur() -> None:
    card = render(settings=resolve({"model.name": "gru", "distill.alpha": 0.7}), teacher="ser-teacher/1")
    for term, definition in {
        "UAR": "UAR (unweighted average recall: the mean",
        "protocol": "The protocol is the rule by which clips are assigned",
        "test evaluation": "test evaluation number 3: the number of models evaluated",
        "WAR": "| WAR | 0.625 | weighted average recall: the share",
        "Calibration": "Calibration: logits are divided by the temperature 1.25, fitted on dev",
        "distilled": "distilled from ser-teacher/1, which means: trained on the outputs",
    }.items():
        assert definition in card.replace("\n", " "), term
    assert "not distilled (alpha 0)" in render()


def test_every_corpus_is_named_with_its_licence_and_a_folder_of_the_user_by_its_name() -> None:
    card = render(trained_on=("emodb", "our-calls"))
    assert "Berlin" in card and "(`emodb`; CC0-1.0)" in card
    assert "recordings in the folder `our-calls` (licence: yours)" in card


def test_groups_are_in_a_table_and_their_absence_is_stated() -> None:
    card = render(groups=GROUPS)
    assert "| sex female | 5 | 40 | 0.750 |" in card and "| sex male | 4 | 32 | 0.500 |" in card
    assert "There are no figures by group of speakers" in render()


def test_figures_on_synthetic_speech_do_not_apply_to_people() -> None:
    assert "This model was trained on synthetic speech (demo): " in render(corpus="demo")
    assert "its figures do not apply to people" in render(corpus="demo")
    assert "synthetic" not in render()
