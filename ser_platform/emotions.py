"""The emotions that corpora are labelled with, and the rules that merge or drop them.

The order of `EMOTIONS` is the order of classes everywhere: targets, logits, confusion matrices, bundles.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ser_platform.errors import UnknownChoice, UserError

EMOTIONS = (
    "neutral",
    "calm",
    "happiness",
    "sadness",
    "anger",
    "fear",
    "disgust",
    "surprise",
    "boredom",
    "excitement",
    "frustration",
    "sarcasm",
    "contempt",
)

# Words in folder names and tables, and the emotion that each means.
SYNONYMS = {
    "neutrality": "neutral",
    "calmness": "calm",
    "happy": "happiness",
    "joy": "happiness",
    "joyful": "happiness",
    "sad": "sadness",
    "angry": "anger",
    "fearful": "fear",
    "afraid": "fear",
    "scared": "fear",
    "disgusted": "disgust",
    "surprised": "surprise",
    "ps": "surprise",
    "pleasant surprise": "surprise",
    "pleasant surprised": "surprise",
    "bored": "boredom",
    "excited": "excitement",
    "frustrated": "frustration",
    "sarcastic": "sarcasm",
}

AS_LABELLED, SHARED = "as_labelled", "shared"
FOUR = ("neutral", "happiness", "sadness", "anger")  # the four that IEMOCAP is usually scored on
SIX = (*FOUR, "fear", "disgust")  # CREMA-D
SEVEN = (*SIX, "surprise")  # TESS, SAVEE, MELD
EIGHT = ("neutral", "calm", *SEVEN[1:])  # RAVDESS
PRESETS = {"4": FOUR, "6": SIX, "7": SEVEN, "8": EIGHT}
# Emotions that a preset counts as another. Source: Busso et al. (2008) score IEMOCAP's excitement as happiness.
MERGED = {"calm": "neutral", "excitement": "happiness"}


def label_set(emotions: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct `emotions` in canonical order.

    Raises:
        UnknownChoice: an emotion is not one of `EMOTIONS`.
    """
    found = set(emotions)
    for emotion in sorted(found.difference(EMOTIONS)):
        raise UnknownChoice("emotion", emotion, EMOTIONS)
    return tuple(emotion for emotion in EMOTIONS if emotion in found)


def parse_emotion(word: str) -> str:
    """Return the emotion that `word` names, in any case: an emotion or a synonym.

    Raises:
        UnknownChoice: the word names none.
    """
    plain = re.sub(r"[\s_-]+", " ", word).strip().lower()
    emotion = SYNONYMS.get(plain, plain)
    if emotion not in EMOTIONS:
        raise UnknownChoice("emotion", word, EMOTIONS)
    return emotion


@dataclass(frozen=True)
class LabelRules:
    """Which emotions are used, and as which labels: the parsed setting `task.labels`.

    The setting is a list with commas, read from left to right: first a preset (`4`, `6`, `7`, `8`), `shared` (the
    emotions that all corpora have) or `as_labelled` (the default), then `calm -> neutral` (merge) or `drop calm`.
    """

    base: str
    steps: tuple[tuple[str, str | None], ...]

    @classmethod
    def parse(cls, text: str) -> "LabelRules":
        """Parse the setting.

        Raises:
            UserError: a word is no preset, no emotion and no rule.
        """
        words = [word.strip() for word in text.split(",") if word.strip()]
        if text.strip() and not words:
            raise UserError(f"data.labels {text!r} has no rule in it; {AS_LABELLED} keeps the emotions as they are")
        bases = (AS_LABELLED, SHARED, *PRESETS)
        base = words.pop(0) if words and words[0] in bases else AS_LABELLED
        return cls(base, tuple(_parse_rule(word, text) for word in words))

    def map_emotions(self, corpora: Iterable[Iterable[str]]) -> dict[str, str | None]:
        """Return the label of each emotion that occurs, None where it is dropped.

        Args:
            corpora: the emotions that occur in each corpus; `shared` keeps the labels that all corpora have.
        """
        present = [set(emotions) for emotions in corpora]
        mapping = {emotion: self._map_emotion(emotion) for emotion in label_set(set().union(*present))}
        if self.base == SHARED:
            kept = set.intersection(*({mapping[emotion] for emotion in emotions} for emotions in present))
            mapping = {emotion: label if label in kept else None for emotion, label in mapping.items()}
        return mapping

    @property
    def named_emotions(self) -> tuple[str, ...]:
        """The emotions of the preset, and those that the rules merge or drop."""
        return label_set([*PRESETS.get(self.base, ()), *(source for source, _ in self.steps)])

    def _map_emotion(self, emotion: str) -> str | None:
        """Apply explicit rules first, so that `8, calm -> neutral` and `4, boredom -> neutral` take effect."""
        label: str | None = emotion
        for source, target in self.steps:
            label = target if label == source else label
        if self.base not in PRESETS or label is None:
            return label
        preset = PRESETS[self.base]
        return label if label in preset else MERGED.get(label) if MERGED.get(label) in preset else None


def _parse_rule(word: str, text: str) -> tuple[str, str | None]:
    if match := re.fullmatch(r"drop\s+(\w+)", word):
        return parse_emotion(match[1]), None
    if match := re.fullmatch(r"(\w+)\s*->\s*(\w+)", word):
        return parse_emotion(match[1]), parse_emotion(match[2])
    raise UserError(
        f"data.labels {text!r}: {word!r} is no rule; write {AS_LABELLED}, {SHARED}, {', '.join(PRESETS)}, "
        "then 'calm -> neutral' or 'drop calm', with commas"
    )
