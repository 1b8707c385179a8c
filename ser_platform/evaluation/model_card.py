"""The model card that travels in a bundle: what the model is, what it was measured on, what it is not for."""

from collections.abc import Iterable, Mapping, Sequence

from ser_platform.corpora.datasets import CORPORA
from ser_platform.evaluation.groups import MOST_GROUPS, GroupScore
from ser_platform.evaluation.intervals import Interval
from ser_platform.settings import Settings


def render_model_card(
    *,
    role: str,
    settings: Settings,
    parameters: int,
    labels: tuple[str, ...],
    corpus: str,
    protocol: str,
    uar: Interval,
    n_test_evaluations: int,
    metrics: Mapping[str, float],
    teacher: str | None,
    trained_on: Iterable[str],
    groups: Sequence[GroupScore],
) -> str:
    """Return the card as Markdown.

    `corpus` is the name of what it was tuned on, `trained_on` the corpora whose clips are in it; `groups` are of the
    test.
    """
    distilled = "plain training (alpha 0)"
    if settings.distill.alpha > 0:
        distilled = (
            f"distilled from {teacher}: alpha {settings.distill.alpha:g}, "
            f"temperature {settings.distill.temperature:g}, teacher term {settings.distill.loss} "
            "(loss = alpha * teacher term + (1 - alpha) * CE; kl is T^2 KL(teacher || student))"
        )
    caveat = f", {uar.caveat}" if uar.caveat else ""
    recalls = "\n".join(
        f"| {label} | {metrics[f'test_recall_{label}']:.3f} |" for label in labels if f"test_recall_{label}" in metrics
    )
    synthetic = (
        "\nThe corpus `demo` is synthetic speech: the figures say nothing about people.\n" if corpus == "demo" else ""
    )
    return f"""# Speech emotion recognition: {role}

{settings.model.name}, {parameters:,} parameters, trained on the corpus `{corpus}`; {distilled}.
Hears mono speech at 16 kHz, up to {settings.data.max_seconds:g} s of a clip; tells {", ".join(labels)} apart
(labels: {settings.data.labels}).

Test UAR {uar.value:.3f} (95 % interval {uar.low:.3f} to {uar.high:.3f}{caveat}); protocol: {protocol};
look number {n_test_evaluations} at these test clips.
{synthetic}
| emotion | recall |
|---|---|
{recalls}

{_render_groups(groups)}

Learnt from {"; ".join(map(_describe_licence, trained_on))}. Its use is bound by these licences too.

Intended for research on acted, emotional speech like its corpus. Not for judging people: acted emotion is not felt
emotion, and a model does worse on voices, languages and rooms that it was not trained on.
"""


def _render_groups(groups: Sequence[GroupScore]) -> str:
    if not groups:
        return (
            "Of groups of speakers nothing is told: the test clips name none, only one, or more than "
            f"{MOST_GROUPS} of a kind."
        )
    rows = [
        f"| {each.grouping} {each.group} | {each.n_speakers} | {each.n_clips} | {each.uar:.3f} |" for each in groups
    ]
    few = "Groups of fewer than five speakers show who these are rather than how the group fares."
    return "\n".join(["| group | speakers | clips | test UAR |", "|---|---|---|---|", *rows, "", few])


def _describe_licence(corpus: str) -> str:
    if corpus not in CORPORA:  # a folder of the user's, by its own name
        return f"recordings in the folder `{corpus}` (licence: {CORPORA['folder'].FACTS.licence})"
    facts = CORPORA[corpus].FACTS
    return f"{facts.title} (`{corpus}`; {facts.licence})"
