"""Findings about a corpus: errors that would spoil an experiment, warnings and notes.

A finding is one sentence with numbers, and the ids of its clips and speakers. A check is a function from an examination
to findings; `diagnose` runs them all.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.audio.reader import SAMPLE_RATE
from ser_platform.corpora.doctor.examination import Examination, RejectedFile
from ser_platform.corpora.doctor.measurements import ClipMeasurements
from ser_platform.corpora.doctor.recordings import Recording
from ser_platform.progress import format_count
from ser_platform.settings import Settings

SPOILS, BEWARE, NOTE = "spoils", "beware", "note"
LEVELS = (SPOILS, BEWARE, NOTE)

IMBALANCE, UNEVEN = 3.0, 1.5  # largest class over smallest: a warning, a note
SHORT_CLIP_S, LONG_CLIP_S = 0.5, 20.0  # a word; several sentences, over which an emotion may change
MAX_DC_OFFSET = 0.01  # of the peak; below, no family of features changes by more than rounding
MIN_SNR_DB = 15.0  # speech over noise
MAX_PAUSE_SHARE = 0.5  # share of a clip
DETAILS: dict[str, Callable[[ClipMeasurements], str]] = {  # by code of a finding about clips; "duration" for the others
    "clipping": lambda clip: f"{clip.full_scale} samples, at most {clip.longest_run} in a row",
    "dc-offset": lambda clip: f"{clip.dc_offset / clip.peak:+.1%}",
    "noisy": lambda clip: f"{clip.snr_db:.0f} dB",
    "pauses": lambda clip: f"{clip.silence:.0%}",
    "duration": lambda clip: f"{clip.seconds:.2f} s",
}


@dataclass(frozen=True)
class Finding:
    """A result of the diagnosis: `clips` and `speakers` are the ids that it is about, `details` describe each case."""

    level: str
    code: str
    text: str
    clips: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()
    details: tuple[str, ...] = ()


def diagnose(examination: Examination, max_bad: float = 0.05) -> list[Finding]:
    """Return the findings, the most severe level first.

    Args:
        examination: the measured corpus.
        max_bad: largest share of unreadable files, in [0, 1], that does not spoil an experiment.
    """
    findings = list(_check_unreadable(examination, max_bad))
    for check in CHECKS:
        findings += check(examination)
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def _check_unreadable(exam: Examination, max_bad: float) -> Iterator[Finding]:
    bad, n_files = exam.unreadable, len(exam.collected.manifest)
    share = len(bad) / max(n_files, 1)
    level, limit = (SPOILS, "more than") if share > max_bad else (BEWARE, "within")
    what = f"of {n_files} cannot be used ({share:.1%}, {limit} --max-bad {max_bad:g})"
    yield from _report_files(bad, level, "unreadable", what)


def _check_refused_files(exam: Examination) -> Iterator[Finding]:
    for code, files, what in (
        ("misfits", exam.collected.misfits, "outside the corpus's grammar or labels"),
        ("repeated-ids", exam.collected.repeated_ids, "with the id of an earlier file"),
    ):
        yield from _report_files(files, SPOILS, code, f"{what}; training refuses the corpus with them")


def _check_speakers(exam: Examination) -> Iterator[Finding]:
    manifest = exam.manifest
    if unknown := manifest.corpora_without_speakers:
        text = f"{', '.join(unknown)} does not name its speakers: no split can keep them apart; see --speaker-from"
        yield Finding(SPOILS, "unknown-speakers", text)
    n_speakers = len(manifest.speakers)
    if n_speakers < 3:
        text = f"{format_count(n_speakers, 'speaker')}; train, dev and test need one each"
        yield Finding(SPOILS, "few-speakers", text, speakers=manifest.speakers)
    has_emotion = manifest.cross_tabulate("emotion", "speaker") > 0
    _, emotions = manifest.encode_column("emotion")
    alone = {
        emotions[row]: manifest.speakers[int(has_emotion[row].argmax())]
        for row in np.flatnonzero(has_emotion.sum(axis=1) == 1)
        if n_speakers > 1
    }
    if alone:
        text = f"{', '.join(alone)} spoken by one speaker only: the model would learn that speaker's voice"
        details = tuple(f"{emotion}: {speaker}" for emotion, speaker in alone.items())
        yield Finding(SPOILS, "one-speaker-class", text, speakers=tuple(sorted(set(alone.values()))), details=details)
    if exam.split is None and n_speakers >= 3 and not alone and not unknown:
        yield Finding(SPOILS, "no-split", f"no default split: {exam.no_split_reason}")


def _check_same_recordings(exam: Examination) -> Iterator[Finding]:
    """Yield recordings with two speakers, labels or split parts, then copies within a speaker and emotion."""
    part_of = _number_parts(exam)
    contradictions: dict[str, tuple[str, Callable[[Recording], bool]]] = {
        "same-audio-two-speakers": (
            "under two speakers: audio of a test speaker would be trained on",
            lambda recording: _differ(exam, recording, "speaker"),
        ),
        "same-audio-two-labels": (
            "with two labels: one of them is wrong",
            lambda recording: _differ(exam, recording, "emotion"),
        ),
        "same-audio-across-split": (
            "on two sides of the default split",
            lambda recording: part_of is not None and len(set(part_of[list(recording.rows)])) > 1,
        ),
    }
    for code, (what, is_contradiction) in contradictions.items():
        found = [recording for recording in exam.recordings if is_contradiction(recording)]
        yield from _report_recordings(exam, found, SPOILS, code, what)
    copies = [r for r in exam.recordings if not any(applies(r) for _, applies in contradictions.values())]
    what = "more than once within one speaker and emotion: they count twice"
    for code, is_exact in (("duplicates", True), ("near-duplicates", False)):
        found = [recording for recording in copies if recording.is_exact is is_exact]
        yield from _report_recordings(exam, found, BEWARE, code, what)


def _report_recordings(
    exam: Examination, found: Sequence[Recording], level: str, code: str, what: str
) -> Iterator[Finding]:
    if not found:
        return
    n_exact = sum(recording.is_exact for recording in found)
    kinds = [f"{n} {kind}" for n, kind in ((n_exact, "identical"), (len(found) - n_exact, "nearly identical")) if n]
    text = f"{format_count(len(found), 'recording')} ({', '.join(kinds)}) {what}"
    ids, speakers, emotions = (exam.manifest.column(name) for name in ("id", "speaker", "emotion"))
    names = {
        row: f"{ids[row]} ({speakers[row]}, {emotions[row]})"
        for row in sorted({row for recording in found for row in recording.rows})
    }
    details = tuple(_describe_recording(recording, names) for recording in found)
    involved = sorted({speakers[row] for row in names})
    yield Finding(level, code, text, tuple(ids[row] for row in names), tuple(involved), details)


def _describe_recording(recording: Recording, names: Mapping[int, str]) -> str:
    clips = " = ".join(names[row] for row in recording.rows)
    if recording.is_exact:
        return f"{clips}: identical"
    worst = max(pair.bit_error_rate for pair in recording.near_pairs)
    return f"{clips}: nearly identical, {worst:.1%} of the fingerprint's bits differ"


def _differ(exam: Examination, recording: Recording, column: str) -> bool:
    codes, _ = exam.manifest.encode_column(column)
    return len(set(codes[list(recording.rows)])) > 1


def _number_parts(exam: Examination) -> NDArray[np.int64] | None:
    """Return the number of each clip's part in the default split `(n_clips,)`, or None where there is none."""
    if exam.split is None:
        return None
    parts = np.full(len(exam.manifest), -1)
    for number, rows in enumerate(exam.split.parts.values()):
        parts[rows] = number
    return parts


def _check_missing_classes(exam: Examination) -> Iterator[Finding]:
    manifest = exam.manifest
    _, emotions = manifest.encode_column("emotion")
    in_corpus = manifest.cross_tabulate("corpus", "emotion") > 0
    by_speaker = manifest.cross_tabulate("speaker", "emotion") > 0
    # A speaker need not have an emotion that the corpus of that speaker lacks.
    expected = (manifest.cross_tabulate("speaker", "corpus") > 0).astype(int) @ in_corpus.astype(int) > 0
    lacking = {
        speaker: [emotions[code] for code in np.flatnonzero(in_own_corpus & ~there)]
        for speaker, in_own_corpus, there in zip(manifest.speakers, expected, by_speaker, strict=True)
        if (in_own_corpus & ~there).any()
    }
    if lacking:
        text = f"{len(lacking)} of {len(by_speaker)} speakers lack an emotion"
        details = tuple(f"{speaker} has no {', '.join(missing)}" for speaker, missing in lacking.items())
        yield Finding(BEWARE, "missing-classes", text, speakers=tuple(lacking), details=details)
    if not in_corpus.all():
        pairs = zip(manifest.corpora, in_corpus, strict=True)
        details = tuple(
            f"{corpus} has no {', '.join(emotions[code] for code in np.flatnonzero(~there))}"
            for corpus, there in pairs
            if not there.all()
        )
        text = "emotions that some corpora lack: a model can recognise the corpus instead; see --labels shared"
        yield Finding(BEWARE, "corpora-differ", text, details=details)
    if exam.split is not None and exam.split.missing_emotions:
        yield Finding(BEWARE, "split-gaps", f"in the default split, {'; '.join(exam.split.missing_emotions)}")


def _check_sentences(exam: Examination) -> Iterator[Finding]:
    if exam.split is None:
        return
    codes, names = exam.manifest.encode_column("sentence")
    inside = {part: set(codes[rows]) - {-1} for part, rows in exam.split.parts.items()}
    shared = inside["train"] & inside["test"]
    if shared:
        text = (
            f"{len(shared)} of {len(inside['test'])} test sentences are spoken in train too: "
            "the test does not measure results on new sentences"
        )
        yield Finding(BEWARE, "sentences-on-both-sides", text, details=tuple(names[code] for code in sorted(shared)))


def _check_balance(exam: Examination) -> Iterator[Finding]:
    counts = Counter(exam.manifest.column("emotion"))
    if len(counts) < 2:
        if counts:
            yield Finding(SPOILS, "one-class", f"every clip is {next(iter(counts))}: there is nothing to distinguish")
        return
    ordered = counts.most_common()
    (most, n_most), (least, n_least) = ordered[0], ordered[-1]
    ratio = n_most / n_least
    if ratio > UNEVEN:
        level = BEWARE if ratio > IMBALANCE else NOTE
        text = f"classes are uneven, {ratio:.1f} : 1 ({most} {n_most} clips, {least} {n_least})"
        yield Finding(level, "imbalance", text, details=tuple(f"{emotion}: {n} clips" for emotion, n in ordered))


def _check_clips(exam: Examination) -> Iterator[Finding]:
    longest, ids = Settings().data.max_seconds, exam.manifest.column("id")
    offset = f"have a DC offset above {MAX_DC_OFFSET:.0%} of the peak"
    noisy = f"have less than {MIN_SNR_DB:g} dB of speech over noise, by estimate"
    cut = f"are longer than the {longest:g} s of data.max_seconds"
    checks: tuple[tuple[str, str, str, Callable[[ClipMeasurements], bool]], ...] = (
        (BEWARE, "clipping", "have two or more samples at full scale", lambda clip: clip.is_clipped),
        (BEWARE, "dc-offset", offset, lambda clip: abs(clip.dc_offset) > MAX_DC_OFFSET * clip.peak),
        (NOTE, "noisy", noisy, lambda clip: clip.snr_db < MIN_SNR_DB),
        (NOTE, "pauses", "are more than half pauses", lambda clip: clip.silence > MAX_PAUSE_SHARE),
        (BEWARE, "short-clips", f"are shorter than {SHORT_CLIP_S:g} s", lambda clip: clip.seconds < SHORT_CLIP_S),
        (BEWARE, "long-clips", f"are longer than {LONG_CLIP_S:g} s", lambda clip: clip.seconds > LONG_CLIP_S),
        (NOTE, "cut-clips", cut, lambda clip: clip.seconds > longest),
    )
    for level, code, what, is_affected in checks:
        if found := [(name, clip) for name, clip in zip(ids, exam.measures, strict=True) if is_affected(clip)]:
            text = f"{len(found)} of {len(ids)} clips ({len(found) / len(ids):.1%}) {what}"
            describe = DETAILS.get(code, DETAILS["duration"])
            details = tuple(f"{name}: {describe(clip)}" for name, clip in found)
            yield Finding(level, code, text, tuple(name for name, _ in found), details=details)


def _check_formats(exam: Examination) -> Iterator[Finding]:
    rates = Counter(clip.sample_rate for clip in exam.measures)
    if len(rates) > 1:
        usual, _ = rates.most_common(1)[0]
        others = [clip.sample_rate != usual for clip in exam.measures]
        listed = ", ".join(f"{n} at {rate} Hz" for rate, n in rates.most_common())
        rows = np.flatnonzero(others)
        names = tuple(exam.manifest.column("id")[rows])
        details = tuple(f"{name}: {exam.measures[row].sample_rate} Hz" for name, row in zip(names, rows, strict=True))
        text = f"mixed sampling rates ({listed}): a model can recognise the recorder instead of the emotion"
        yield Finding(BEWARE, "mixed-rates", text, names, details=details)
    elif rates and SAMPLE_RATE not in rates:
        yield Finding(NOTE, "resampled", f"all clips are at {next(iter(rates))} Hz; models use {SAMPLE_RATE} Hz")
    for code, what, found in (
        ("mixed-channels", "channels", Counter(f"{clip.channels}" for clip in exam.measures)),
        ("mixed-subtypes", "encodings", Counter(clip.subtype for clip in exam.measures)),
    ):
        if len(found) > 1:
            listed = ", ".join(f"{n} with {value}" for value, n in found.most_common())
            yield Finding(NOTE, code, f"mixed {what} ({listed})")


def _check_exclusions(exam: Examination) -> Iterator[Finding]:
    if exam.collected.exclusions:
        listed = ", ".join(f"{n} {reason}" for reason, n in exam.collected.exclusions.most_common())
        yield Finding(NOTE, "left-out", f"the corpus leaves out {listed}")
    if exam.collected.label_changes:
        yield Finding(NOTE, "labels", f"the rules for labels: {', '.join(exam.collected.label_changes)}")


def _report_files(files: Sequence[RejectedFile], level: str, code: str, what: str) -> Iterator[Finding]:
    if files:
        text = f"{format_count(len(files), 'file')} {what}"
        yield Finding(level, code, text, tuple(file.name for file in files), details=tuple(map(str, files)))


CHECKS: tuple[Callable[[Examination], Iterator[Finding]], ...] = (
    _check_refused_files,
    _check_speakers,
    _check_same_recordings,
    _check_missing_classes,
    _check_sentences,
    _check_balance,
    _check_clips,
    _check_formats,
    _check_exclusions,
)
