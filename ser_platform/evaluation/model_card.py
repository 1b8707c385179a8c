"""The model card in a bundle, as Markdown: what the model is, its test figures, its training data and its limits."""

from collections.abc import Iterable, Mapping, Sequence

from ser_platform.corpora.datasets import CORPORA
from ser_platform.evaluation.groups import GROUPINGS, MAX_GROUPS, GroupScore
from ser_platform.evaluation.intervals import Interval
from ser_platform.evaluation.task import describe_synthetic_model
from ser_platform.settings import Settings

DEFINITIONS = {
    "uar": ("UAR", "unweighted average recall: the mean of the recalls below"),
    "war": ("WAR", "weighted average recall: the share of clips with the right emotion, also called accuracy"),
    "macro_f1": ("macro-F1", "the mean over emotions of F1, the harmonic mean of precision and recall"),
}


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
    temperature: float,
    teacher: str | None,
    trained_on: Iterable[str],
    groups: Sequence[GroupScore],
) -> str:
    """Return the card as Markdown.

    Args:
        corpus: the corpus of its study, which the test clips are from.
        metrics: test figures in [0, 1], by their logged names.
        temperature: of calibration.
        trained_on: the corpora of its training clips, those of its teacher and its initial weights included.
        groups: scores by group of test speakers.
    """
    caveat = f", valid for {uar.caveat}" if uar.caveat else ""
    figures = "\n".join(
        f"| {title} | {metrics[f'test_{name}']:.3f} | {meaning} |"
        for name, (title, meaning) in DEFINITIONS.items()
        if f"test_{name}" in metrics
    )
    recalls = "\n".join(
        f"| {label} | {metrics[f'test_recall_{label}']:.3f} |" for label in labels if f"test_recall_{label}" in metrics
    )
    warning = describe_synthetic_model("This model", corpus)
    synthetic = f"\n{warning}, and its figures do not apply to people.\n" if warning else ""
    return f"""# Speech emotion recognition: {role} model `{settings.model.name}`, trained on the corpus `{corpus}`

The UAR (unweighted average recall: the mean over emotions of the share of their clips that the model recognises) is
{uar.value:.3f} (95 % interval {uar.low:.3f} to {uar.high:.3f}{caveat}) on the test clips of the corpus `{corpus}`,
split by the protocol `{protocol}`.

The protocol is the rule by which clips are assigned to training, dev (selection) and test; a leak between them is named
in it. This is test evaluation number {n_test_evaluations}: the number of models evaluated on these test clips so far,
which makes the figures of later models less independent of them.
{synthetic}
| figure | on test | definition |
|---|---|---|
{figures}

| emotion | recall on test |
|---|---|
{recalls}

{_render_groups(groups)}

## Model

- Input: mono speech at 16 kHz, up to {settings.data.max_seconds:g} s of a clip.
- Output: the probability of each of {len(labels)} emotions: {", ".join(labels)} (labels: {settings.data.labels}).
- Calibration: logits are divided by the temperature {temperature:.3g}, fitted on dev, so that a probability is close to
  the share of clips in which the emotion is right.
- Parameters: {parameters:,}.
- Training: {_describe_training(settings, teacher)}.
- Training data: {"; ".join(map(_describe_licence, trained_on))}. These licences also apply to the use of the model.

## Use

Intended for research on acted, emotional speech like that of its corpus. Do not use it to assess people: acted emotion
is not felt emotion, and figures are lower on voices, languages and rooms that are not in the training data.
"""


def _describe_training(settings: Settings, teacher: str | None) -> str:
    distill = settings.distill
    if distill.alpha == 0:
        return "on labels only, not distilled (alpha 0)"
    return (
        f"distilled from {teacher}, which means: trained on the outputs of that teacher as well as on labels; "
        f"loss = alpha * teacher term + (1 - alpha) * cross-entropy, with alpha {distill.alpha:g}, temperature T "
        f"{distill.temperature:g}, teacher term {distill.loss} (kl is T^2 KL(teacher || student))"
    )


def _render_groups(groups: Sequence[GroupScore]) -> str:
    if not groups:
        return (
            f"There are no figures by group of speakers: for each of {', '.join(GROUPINGS)} the test clips have no "
            f"value, one value, or more than {MAX_GROUPS}."
        )
    rows = [
        f"| {each.grouping} {each.group} | {each.n_speakers} | {each.n_clips} | {each.uar:.3f} |" for each in groups
    ]
    few = "Figures of groups with fewer than five speakers describe these speakers, not the group."
    return "\n".join(["| group | speakers | clips | test UAR |", "|---|---|---|---|", *rows, "", few])


def _describe_licence(corpus: str) -> str:
    if corpus not in CORPORA:  # a folder of the user's, by its own name
        return f"recordings in the folder `{corpus}` (licence: {CORPORA['folder'].FACTS.licence})"
    facts = CORPORA[corpus].FACTS
    return f"{facts.title} (`{corpus}`; {facts.licence})"
