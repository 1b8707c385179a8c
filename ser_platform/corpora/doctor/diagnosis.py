"""Findings: what would spoil an experiment, what to beware of, what to know.

Each is one sentence with numbers, and the names of the clips and speakers it is about. A test is a function from an
examination to findings; `diagnose` runs them all.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_platform.corpora.audio.reader import SAMPLE_RATE
from ser_platform.corpora.doctor.examination import Examination, RejectedFile
from ser_platform.corpora.doctor.recordings import Recording
from ser_platform.settings import Settings

SPOILS, BEWARE, NOTE = "spoils", "beware", "note"
LEVELS = (SPOILS, BEWARE, NOTE)

IMBALANCE, UNEVEN = 3.0, 1.5  # largest class over smallest: to beware of, to know
SHORT_CLIP_S, LONG_CLIP_S = 0.5, 20.0  # a word; several sentences, over which an emotion may change
MAX_DC_OFFSET = 0.01  # of the peak; below, no family of features changes by more than rounding
MIN_SNR_DB = 15.0  # speech over noise
MAX_PAUSE_SHARE = 0.5  # share of a clip


@dataclass(frozen=True)
class Finding:
    """One thing that is amiss: `clips` and `speakers` name whom it is about, `details` tell each case in words."""

    level: str
    code: str
    text: str
    clips: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()
    details: tuple[str, ...] = ()


def diagnose(examination: Examination, max_bad: float = 0.05) -> list[Finding]:
    """Return the findings, what spoils first.

    Args:
        examination: what is known of the corpus.
        max_bad: largest share of unreadable files, in [0, 1], that does not spoil.
    """
    findings = list(_check_unreadable(examination, max_bad))
    for test in CHECKS:
        findings += test(examination)
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def _check_unreadable(exam: Examination, max_bad: float) -> Iterator[Finding]:
    bad, n_files = exam.unreadable, len(exam.collected.manifest)
    if not bad:
        return
    share = len(bad) / n_files
    level, limit = (SPOILS, "more than") if share > max_bad else (BEWARE, "within")
    text = f"{_files(len(bad))} of {n_files} cannot be used ({share:.1%}, {limit} --max-bad {max_bad:g})"
    yield Finding(level, "unreadable", text, _names(bad), details=tuple(map(str, bad)))


def _check_misfits(exam: Examination) -> Iterator[Finding]:
    if odd := exam.collected.misfits:
        text = f"{_files(len(odd))} outside the corpus's grammar or labels; training refuses the corpus with them"
        yield Finding(SPOILS, "misfits", text, _names(odd), details=tuple(map(str, odd)))


def _check_repeated_ids(exam: Examination) -> Iterator[Finding]:
    if odd := exam.collected.repeated_ids:
        text = f"{_files(len(odd))} with the id of an earlier file; training refuses the corpus with them"
        yield Finding(SPOILS, "repeated-ids", text, _names(odd), details=tuple(map(str, odd)))


def _check_speakers(exam: Examination) -> Iterator[Finding]:
    manifest = exam.manifest
    if unknown := manifest.corpora_without_speakers:
        text = f"{', '.join(unknown)} does not say who speaks: no split can keep speakers apart; see --speaker-from"
        yield Finding(SPOILS, "unknown-speakers", text)
    n_speakers = len(manifest.speakers)
    if n_speakers < 3:
        text = f"{n_speakers} {'speaker' if n_speakers == 1 else 'speakers'}; train, dev and test need one each"
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
    """What spoils by a contradiction is told as such; the rest are copies within a speaker, told apart by exactness."""
    part_of = _parts(exam)
    contradictions: dict[str, tuple[str, Callable[[Recording], bool]]] = {
        "same-audio-two-speakers": (
            "under two speakers: a test speaker would have been heard in training",
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
    for code, (what, commits) in contradictions.items():
        if found := [recording for recording in exam.recordings if commits(recording)]:
            yield _about_recordings(exam, found, SPOILS, code, what)
    harmless = [r for r in exam.recordings if not any(commits(r) for _, commits in contradictions.values())]
    what = "more than once within one speaker and emotion: they count twice"
    for code, is_exact in (("duplicates", True), ("near-duplicates", False)):
        if found := [recording for recording in harmless if recording.is_exact is is_exact]:
            yield _about_recordings(exam, found, BEWARE, code, what)


def _about_recordings(exam: Examination, found: Sequence[Recording], level: str, code: str, what: str) -> Finding:
    n_exact = sum(recording.is_exact for recording in found)
    kinds = [f"{n} {kind}" for n, kind in ((n_exact, "identical"), (len(found) - n_exact, "nearly identical")) if n]
    text = f"{len(found)} {'recording' if len(found) == 1 else 'recordings'} ({', '.join(kinds)}) {what}"
    ids, speakers, emotions = (exam.manifest.column(name) for name in ("id", "speaker", "emotion"))
    names = {
        row: f"{ids[row]} ({speakers[row]}, {emotions[row]})"
        for row in sorted({row for recording in found for row in recording.rows})
    }
    details = tuple(_describe_recording(recording, names) for recording in found)
    involved = sorted({speakers[row] for row in names})
    return Finding(level, code, text, tuple(ids[row] for row in names), tuple(involved), details)


def _describe_recording(recording: Recording, names: Mapping[int, str]) -> str:
    clips = " = ".join(names[row] for row in recording.rows)
    if recording.is_exact:
        return f"{clips}: identical"
    worst = max(pair.bit_error_rate for pair in recording.near_pairs)
    return f"{clips}: nearly identical, {worst:.1%} of the fingerprint's bits differ"


def _differ(exam: Examination, recording: Recording, column: str) -> bool:
    codes, _ = exam.manifest.encode_column(column)
    return len(set(codes[list(recording.rows)])) > 1


def _parts(exam: Examination) -> NDArray[np.int64] | None:
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
    # What a speaker's corpus has not, no speaker can be asked for.
    expected = (manifest.cross_tabulate("speaker", "corpus") > 0).astype(int) @ in_corpus.astype(int) > 0
    lacking = {
        speaker: [emotions[code] for code in np.flatnonzero(wanted & ~there)]
        for speaker, wanted, there in zip(manifest.speakers, expected, by_speaker, strict=True)
        if (wanted & ~there).any()
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
        text = "emotions that some corpora lack: a model can hear the corpus instead; see --labels shared"
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
            "the test says nothing of sentences that are new"
        )
        yield Finding(BEWARE, "sentences-on-both-sides", text, details=tuple(names[code] for code in sorted(shared)))


def _check_balance(exam: Examination) -> Iterator[Finding]:
    counts = Counter(exam.manifest.column("emotion"))
    if len(counts) < 2:
        if counts:
            yield Finding(SPOILS, "one-class", f"every clip is {next(iter(counts))}: there is nothing to tell apart")
        return
    ordered = counts.most_common()
    (most, n_most), (least, n_least) = ordered[0], ordered[-1]
    ratio = n_most / n_least
    if ratio > UNEVEN:
        level = BEWARE if ratio > IMBALANCE else NOTE
        text = f"classes are uneven, {ratio:.1f} : 1 ({most} {n_most} clips, {least} {n_least})"
        yield Finding(level, "imbalance", text, details=tuple(f"{emotion}: {n} clips" for emotion, n in ordered))


def _check_levels(exam: Examination) -> Iterator[Finding]:
    clipped = [clip.is_clipped for clip in exam.measures]
    yield from _report_clips(exam, clipped, BEWARE, "clipping", "have two or more samples at full scale", _clipping)
    offset = [abs(clip.dc_offset) > MAX_DC_OFFSET * clip.peak for clip in exam.measures]
    what = f"have a DC offset above {MAX_DC_OFFSET:.0%} of the peak"
    yield from _report_clips(exam, offset, BEWARE, "dc-offset", what, lambda exam, row: f"{_offset(exam, row):+.1%}")
    noisy = [clip.snr_db < MIN_SNR_DB for clip in exam.measures]
    what = f"have less than {MIN_SNR_DB:g} dB of speech over noise, by estimate"
    yield from _report_clips(exam, noisy, NOTE, "noisy", what, lambda exam, row: f"{exam.measures[row].snr_db:.0f} dB")
    silent = [clip.silence > MAX_PAUSE_SHARE for clip in exam.measures]
    yield from _report_clips(
        exam, silent, NOTE, "pauses", "are more than half pauses", lambda exam, row: f"{exam.measures[row].silence:.0%}"
    )


def _clipping(exam: Examination, row: int) -> str:
    clip = exam.measures[row]
    return f"{clip.full_scale} samples, at most {clip.longest_run} in a row"


def _offset(exam: Examination, row: int) -> float:
    return exam.measures[row].dc_offset / exam.measures[row].peak


def _check_durations(exam: Examination) -> Iterator[Finding]:
    seconds = [clip.seconds for clip in exam.measures]
    longest = Settings().data.max_seconds
    for level, code, is_so, what in (
        (BEWARE, "short-clips", [s < SHORT_CLIP_S for s in seconds], f"are shorter than {SHORT_CLIP_S:g} s"),
        (BEWARE, "long-clips", [s > LONG_CLIP_S for s in seconds], f"are longer than {LONG_CLIP_S:g} s"),
        (NOTE, "cut-clips", [s > longest for s in seconds], f"are longer than the {longest:g} s of data.max_seconds"),
    ):
        yield from _report_clips(
            exam, is_so, level, code, what, lambda exam, row: f"{exam.measures[row].seconds:.2f} s"
        )


def _check_formats(exam: Examination) -> Iterator[Finding]:
    rates = Counter(clip.sample_rate for clip in exam.measures)
    if len(rates) > 1:
        usual, _ = rates.most_common(1)[0]
        others = [clip.sample_rate != usual for clip in exam.measures]
        listed = ", ".join(f"{n} at {rate} Hz" for rate, n in rates.most_common())
        rows = np.flatnonzero(others)
        names = tuple(exam.manifest.column("id")[rows])
        details = tuple(f"{name}: {exam.measures[row].sample_rate} Hz" for name, row in zip(names, rows, strict=True))
        text = f"mixed sampling rates ({listed}): a model can hear the recorder instead of the emotion"
        yield Finding(BEWARE, "mixed-rates", text, names, details=details)
    elif rates and SAMPLE_RATE not in rates:
        yield Finding(NOTE, "resampled", f"all clips are at {next(iter(rates))} Hz; models hear {SAMPLE_RATE} Hz")
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


def _report_clips(
    exam: Examination,
    is_affected: list[bool],
    level: str,
    code: str,
    what: str,
    detail: Callable[[Examination, int], str],
) -> Iterator[Finding]:
    """Yield one finding about the clips that are so, if any."""
    rows = np.flatnonzero(is_affected)
    if len(rows):
        ids = exam.manifest.column("id")
        text = f"{len(rows)} of {len(is_affected)} clips ({len(rows) / len(is_affected):.1%}) {what}"
        details = tuple(f"{ids[row]}: {detail(exam, int(row))}" for row in rows)
        yield Finding(level, code, text, tuple(ids[rows]), details=details)


def _names(odd: Iterable[RejectedFile]) -> tuple[str, ...]:
    return tuple(each.name for each in odd)


def _files(n: int) -> str:
    return f"{n} {'file' if n == 1 else 'files'}"


CHECKS: tuple[Callable[[Examination], Iterator[Finding]], ...] = (
    _check_misfits,
    _check_repeated_ids,
    _check_speakers,
    _check_same_recordings,
    _check_missing_classes,
    _check_sentences,
    _check_balance,
    _check_levels,
    _check_durations,
    _check_formats,
    _check_exclusions,
)
