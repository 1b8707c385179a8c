"""The task of a model: its corpora, its emotions and the kind of its protocol. Models of one task are compared."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ser_platform.corpora.corpus_lookup import CORPUS_SEPARATOR
from ser_platform.corpora.datasets import CORPORA


@dataclass(frozen=True)
class Task:
    """What a model was trained for.

    Two splits of an own folder, or the same folder with more recordings, are one task.

    Attributes:
        corpora: names, sorted; empty where they are unknown.
        emotions: sorted.
        protocol: the kind of the protocol, such as `speaker` or `loso`; for `cross_corpus` with its corpora.
    """

    corpora: tuple[str, ...]
    emotions: tuple[str, ...]
    protocol: str

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> "Task":
        """Return the task in the tags of a registered version; a missing tag leaves its part empty."""
        emotions = tags.get("labels", "").split()
        return cls(
            _split_corpora(tags.get("corpus", "")), tuple(sorted(emotions)), _find_kind(tags.get("protocol", ""))
        )

    @property
    def is_synthetic(self) -> bool:
        """Whether all its speech is synthetic."""
        return bool(self.corpora) and all(map(_is_synthetic, self.corpora))

    @property
    def has_own_folder(self) -> bool:
        """Whether some of its speech is of an own folder, whose name another folder may have too."""
        return any(name not in CORPORA for name in self.corpora)

    def mark_own_folders(self) -> "Task":
        """Return the task of models whose own folders have the same names, but other recordings."""
        return replace(
            self, corpora=tuple(name if name in CORPORA else f"{name} (another folder)" for name in self.corpora)
        )

    def describe_difference(self, other: "Task") -> str:
        """Return how this task differs from `other`, like `corpus emodb, not ravdess; with boredom, without calm`."""
        parts = []
        if self.corpora != other.corpora:
            parts.append(f"corpus {_join(self.corpora)}, not {_join(other.corpora)}")
        added, missing = (set(self.emotions) - set(other.emotions), set(other.emotions) - set(self.emotions))
        named = [(word, ", ".join(sorted(each))) for word, each in (("with", added), ("without", missing)) if each]
        if named:
            parts.append(", ".join(f"{word} {emotions}" for word, emotions in named))
        if self.protocol != other.protocol:
            parts.append(f"protocol {self.protocol or 'unknown'}, not {other.protocol or 'unknown'}")
        return "; ".join(parts)


def describe_training_corpora(corpus: str) -> str:
    """Return the corpora that a model was trained on, joined by `+`, with a note on each synthetic one."""
    named = [f"{name} (synthetic)" if _is_synthetic(name) else name for name in _split_corpora(corpus)]
    return CORPUS_SEPARATOR.join(named) or "an unknown corpus"


def describe_synthetic_model(title: str, corpus: str) -> str | None:
    """Return a warning where a model was trained on synthetic speech only; None for other models."""
    task = Task(_split_corpora(corpus), (), "")
    if not task.is_synthetic:
        return None
    named = _join(task.corpora)
    return f"{title} was trained on synthetic speech ({named}): its predictions mean nothing for real recordings"


def _split_corpora(corpus: str) -> tuple[str, ...]:
    return tuple(sorted(filter(None, corpus.split(CORPUS_SEPARATOR))))


def _join(corpora: Iterable[str]) -> str:
    return CORPUS_SEPARATOR.join(corpora) or "unknown"


def _is_synthetic(name: str) -> bool:
    return name in CORPORA and CORPORA[name].FACTS.is_synthetic


def _find_kind(stamp: str) -> str:
    """Return the kind of a protocol by its stamp, which also names the fold, the leaks and the normalisation."""
    protocol = re.split(r" fold |, \d+ folds| \(|;", stamp, maxsplit=1)[0]
    name = re.split(r"[:(]", protocol, maxsplit=1)[0].strip()
    return protocol.replace(" ", "") if name == "cross_corpus" else name
