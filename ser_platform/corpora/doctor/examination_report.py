"""The findings and measurements of a corpus as a dictionary for JSON: shares in [0, 1], seconds, Hz, dB."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.doctor.diagnosis import LEVELS, SPOILS, Finding
from ser_platform.corpora.doctor.examination import Examination
from ser_platform.corpora.doctor.measurements import ClipMeasurements

MAX_BINS = 12  # of the width of a step; edges at multiples of the step may add one
STEPS = (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0, 10.0, 20.0)  # seconds
SPEAKERS_SHOWN = 40  # rows of the printed table; further speakers are summed up in one


@dataclass(frozen=True)
class Histogram:
    """Counts between edges: `edges` has one entry more than `counts`."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


def build_report(exam: Examination, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the report in types that JSON has."""
    manifest = exam.manifest
    return {
        "corpus": exam.collected.name,
        "folders": [str(root) for root in exam.collected.roots],
        "spoils": has_spoiling_finding(findings),
        "findings": [asdict(finding) for finding in findings],
        "clips": len(manifest),
        "seconds": float(sum(clip.seconds for clip in exam.measures)),
        "speakers": list(manifest.speakers),
        "emotions": dict(Counter(manifest.column("emotion"))),
        "clips_by_speaker_and_emotion": count_clips_by_speaker_and_emotion(exam),
        "durations": _describe_durations(exam.measures),
        "formats": {
            "sample_rates_hz": _count_values(clip.sample_rate for clip in exam.measures),
            "channels": _count_values(clip.channels for clip in exam.measures),
            "subtypes": _count_values(clip.subtype for clip in exam.measures),
        },
        "clipping": _compute_share([clip.is_clipped for clip in exam.measures]),
        "silence_share": _compute_percentiles([clip.silence for clip in exam.measures]),
        "snr_db": _compute_percentiles([clip.snr_db for clip in exam.measures]),
        "peak": _compute_percentiles([clip.peak for clip in exam.measures]),
        "dc_offset": _compute_percentiles([abs(clip.dc_offset) for clip in exam.measures]),
        "recordings": _list_recordings(exam),
        "split": _describe_split(exam),
        "misfits": [asdict(odd) for odd in exam.collected.misfits],
        "repeated_ids": [asdict(odd) for odd in exam.collected.repeated_ids],
        "unreadable": [asdict(odd) for odd in exam.unreadable],
        "left_out": dict(exam.collected.exclusions),
        "measures": _list_clips(exam),
    }


def has_spoiling_finding(findings: Sequence[Finding]) -> bool:
    """Return whether a finding would spoil an experiment on the corpus."""
    return any(finding.level == SPOILS for finding in findings)


def group_by_level(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Return the findings by level, the most severe first; every level is a key."""
    return {level: [finding for finding in findings if finding.level == level] for level in LEVELS}


def escape_unprintable(text: str) -> str:
    """Return untrusted text with unprintable characters as escapes, so that no name can control a terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def count_clips_by_speaker_and_emotion(exam: Examination) -> dict[str, dict[str, int]]:
    """Return the number of clips by speaker and emotion, emotions in canonical order."""
    counts = exam.manifest.cross_tabulate("speaker", "emotion")
    _, names = exam.manifest.encode_column("emotion")
    columns = [(label, names.index(label)) for label in exam.manifest.labels]
    return {
        speaker: {label: int(row[column]) for label, column in columns}
        for speaker, row in zip(exam.manifest.speakers, counts, strict=True)
    }


def duration_histogram(seconds: Sequence[float]) -> Histogram:
    """Return durations in about a dozen bins of a round width."""
    if not seconds:
        return Histogram((), ())
    low, high = min(seconds), max(seconds)
    step = next((step for step in STEPS if (high - low) / step <= MAX_BINS), STEPS[-1])
    first, last = int(low // step), int(high // step) + 1
    edges = np.arange(first, last + 1) * step
    counts, _ = np.histogram(seconds, edges)
    return Histogram(tuple(float(edge) for edge in edges), tuple(int(count) for count in counts))


def _describe_durations(measures: Sequence[ClipMeasurements]) -> dict[str, Any]:
    seconds = [clip.seconds for clip in measures]
    return {**_compute_percentiles(seconds), "histogram": asdict(duration_histogram(seconds))}


def _compute_percentiles(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return dict.fromkeys(("min", "p5", "median", "p95", "max"))
    found: NDArray[np.float64] = np.percentile(values, [0, 5, 50, 95, 100])
    return dict(zip(("min", "p5", "median", "p95", "max"), map(float, found), strict=True))


def _compute_share(are_affected: Sequence[bool]) -> dict[str, float]:
    return {"clips": sum(are_affected), "share": sum(are_affected) / len(are_affected) if are_affected else 0.0}


def _count_values(values: Any) -> Mapping[str, int]:
    return {str(value): count for value, count in Counter(values).most_common()}


def _list_recordings(exam: Examination) -> list[dict[str, Any]]:
    ids = exam.manifest.column("id")
    return [
        {
            "clips": [ids[row] for row in recording.rows],
            "identical": recording.is_exact,
            "near": [
                {
                    "first": ids[pair.first],
                    "second": ids[pair.second],
                    "offset_s": pair.offset_s,
                    "overlap_s": pair.overlap_s,
                    "bit_error_rate": pair.bit_error_rate,
                }
                for pair in recording.near_pairs
            ],
        }
        for recording in exam.recordings
    ]


def _describe_split(exam: Examination) -> dict[str, Any] | None:
    if exam.split is None:
        return None
    return {
        "protocol": exam.split.protocol,
        "seed": exam.split.seed,
        "speakers": {part: list(exam.split.speakers(part)) for part in exam.split.parts},
    }


def _list_clips(exam: Examination) -> list[dict[str, Any]]:
    columns = {name: exam.manifest.column(name) for name in ("id", "path", "speaker", "emotion")}
    return [
        {**{name: str(values[row]) for name, values in columns.items()}, **asdict(clip)}
        for row, clip in enumerate(exam.measures)
    ]
