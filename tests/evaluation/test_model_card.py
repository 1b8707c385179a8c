"""What a model card tells: whose speech was learnt from, and how groups of people fare."""

from ser_platform.evaluation.groups import GroupScore
from ser_platform.evaluation.intervals import Interval
from ser_platform.evaluation.model_card import render_model_card
from ser_platform.settings import resolve


def card(heard: list[str], groups: list[GroupScore]) -> str:
    return render_model_card(
        role="student",
        settings=resolve({"model.name": "gru"}),
        parameters=7,
        labels=("anger", "neutral"),
        corpus="emodb",
        protocol="speaker",
        uar=Interval(0.5, 0.4, 0.6, 9, "speakers"),
        n_test_evaluations=1,
        metrics={"test_recall_anger": 0.25},
        teacher=None,
        trained_on=heard,
        groups=groups,
    )


def test_every_corpus_is_named_with_its_licence_and_a_folder_of_the_user_by_its_name():
    told = card(["emodb", "our-calls"], [])
    assert "Berlin" in told and "(`emodb`; CC0-1.0)" in told
    assert "recordings in the folder `our-calls` (licence: yours)" in told


def test_groups_stand_in_a_table_and_their_absence_is_told():
    told = card(["emodb"], [GroupScore("sex", "female", 5, 40, 0.75), GroupScore("sex", "male", 4, 32, 0.5)])
    assert "| sex female | 5 | 40 | 0.750 |" in told and "| sex male | 4 | 32 | 0.500 |" in told
    assert "Of groups of speakers nothing is told" in card(["emodb"], [])
