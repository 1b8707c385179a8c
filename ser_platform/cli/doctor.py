"""`ser corpora doctor`: find problems of a corpus that would make experiments on it wrong."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ser_platform.cli.options import CorpusArgument, DataOptions, JsonOption, add_options, format_examples
from ser_platform.cli.output import escape_unprintable, make_console, make_display, print_json, print_table

if TYPE_CHECKING:
    from rich.console import Console

    from ser_platform.corpora.doctor.diagnosis import Finding
    from ser_platform.corpora.doctor.examination import Examination

EXAMPLES = format_examples("ser corpora doctor ravdess", "ser corpora doctor speech/ --speaker-from '^([^/]+)/'")
MAX_NAMED_CASES = 6  # printed cases of a finding; the page and the JSON contain all
FILE_BY_FILE_CODES = frozenset({"misfits", "repeated-ids", "unreadable"})  # findings that are repaired file by file
MAX_FILE_CASES = 40
BAR_COLUMNS = 40  # columns
MAX_INLINE_CHARS = 16  # characters; shorter cases are printed in one line
STYLES = {"spoils": "bold red", "beware": "yellow", "note": "cyan"}


@add_options("as_name", "labels", "speaker_from", "speaker_column", "columns", "seed", "max_bad")
def doctor(
    corpus: CorpusArgument,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Number of processes; default: one for each CPU core.")
    ] = None,
    as_json: JsonOption = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File of the page; default: runs/doctor-CORPUS.html.")
    ] = None,
    *,
    data: DataOptions,
) -> None:
    """Find copies, wrong labels, unreadable files and missing speakers; exit code 1 if they make experiments wrong.\f

    Every file is decoded. Clips are compared by the hash of their samples, and by fingerprints that do not depend on
    gain, sample rate, codec, trimming and a little noise.
    """
    from ser_platform.corpora.doctor.diagnosis import diagnose
    from ser_platform.corpora.doctor.examination import examine
    from ser_platform.corpora.doctor.examination_page import write_page
    from ser_platform.corpora.doctor.examination_report import build_report, has_spoiling_finding
    from ser_platform.settings import runs_folder

    with make_display(as_json=True).show_progress("files examined") as progress:
        examination = examine(data.corpus_request(corpus), data.seed or 0, jobs, progress)
    findings = diagnose(examination, data.max_bad)
    page = html or runs_folder() / f"doctor-{_make_file_name(corpus)}.html"
    write_page(examination, findings, page)
    if as_json:
        print_json({**build_report(examination, findings), "page": str(page)})
    else:
        _print(examination, findings, make_console())
        print(f"page: {page}")
    if has_spoiling_finding(findings):
        raise typer.Exit(1)


def _make_file_name(corpus: str) -> str:
    """Return the corpus argument as a file name; two folders of one corpus have two pages."""
    return re.sub(r"[^\w+-]+", "-", corpus).strip("-")[-100:]


def _print(exam: "Examination", findings: "list[Finding]", out: "Console") -> None:
    from ser_platform.corpora.doctor.examination_report import group_by_level

    manifest, minutes = exam.manifest, sum(clip.seconds for clip in exam.measures) / 60
    out.print(
        f"{escape_unprintable(exam.collected.name)}: {len(manifest)} clips, {minutes:.1f} minutes, "
        f"{len(manifest.speakers)} speakers, {len(manifest.labels)} emotions"
    )
    if len(manifest):
        _print_counts(exam)
        _print_durations(exam, out)
    for level, found in group_by_level(findings).items():
        for finding in found:
            _print_finding(level, finding, out)
    n_spoiling = len(group_by_level(findings)["spoils"])
    verdict = "no finding would spoil an experiment"
    if n_spoiling:
        verdict = f"{n_spoiling} finding{'s' if n_spoiling > 1 else ''} would spoil an experiment"
    out.print(verdict, style=STYLES["spoils"] if n_spoiling else "bold green")


def _print_finding(level: str, finding: "Finding", out: "Console") -> None:
    from rich.text import Text

    out.print(Text.assemble((f"{level:<7}", STYLES[level]), f" {escape_unprintable(finding.text)}"))
    cases = finding.details or finding.clips or finding.speakers
    most = MAX_FILE_CASES if finding.code in FILE_BY_FILE_CODES else MAX_NAMED_CASES if level != "note" else 0
    n_shown = min(len(cases), most)
    shown = cases[:n_shown]
    if all(len(case) <= MAX_INLINE_CHARS for case in shown):
        shown = (", ".join(shown),) if shown else ()
    for case in shown:
        out.print(Text(f"          {escape_unprintable(case)}"))
    if 0 < n_shown < len(cases):
        out.print(Text(f"          and {len(cases) - n_shown} more"))


def _print_counts(exam: "Examination") -> None:
    from ser_platform.corpora.doctor.examination_report import SPEAKERS_SHOWN, count_clips_by_speaker_and_emotion

    counts, labels = count_clips_by_speaker_and_emotion(exam), exam.manifest.labels
    if len(counts) > SPEAKERS_SHOWN:
        rows = []
        for label in labels:
            clips = sorted(row[label] for row in counts.values() if row[label])
            spread = [str(clips[0]), str(clips[len(clips) // 2]), str(clips[-1])]
            rows.append([label, str(sum(clips)), str(len(clips)), *spread])
        headers = ["emotion", "clips", "speakers", "fewest of a speaker", "median", "most"]
        print_table(f"Clips of {len(counts)} speakers", headers, rows)
        return
    rows = [
        [escape_unprintable(speaker), *(str(row[label]) for label in labels), str(sum(row.values()))]
        for speaker, row in counts.items()
    ]
    sums = [sum(row[label] for row in counts.values()) for label in labels]
    rows.append(["all", *map(str, sums), str(sum(sums))])
    print_table("Clips", ["speaker", *labels, "all"], rows)


def _print_durations(exam: "Examination", out: "Console") -> None:
    from collections import Counter
    from statistics import median

    from ser_platform.corpora.doctor.examination_report import duration_histogram

    seconds = [clip.seconds for clip in exam.measures]
    histogram = duration_histogram(seconds)
    lines = [f"Durations: {min(seconds):.2f} to {max(seconds):.2f} s, median {median(seconds):.2f} s"]
    for low, high, count in zip(histogram.edges, histogram.edges[1:], histogram.counts, strict=False):
        bar = "#" * -(-BAR_COLUMNS * count // max(histogram.counts))
        lines.append(f"  {low:6.2f} - {high:6.2f} s {count:7d} {bar}")
    formats = Counter(f"{clip.sample_rate} Hz {clip.channels} ch {clip.subtype}" for clip in exam.measures)
    lines.append("Formats: " + ", ".join(f"{count} x {name}" for name, count in formats.most_common()))
    snr = median(clip.snr_db for clip in exam.measures)
    pauses = median(clip.silence for clip in exam.measures)
    lines.append(f"Signal-to-noise ratio: {snr:.0f} dB, pauses: {pauses:.0%} (medians, estimated)")
    out.print("\n".join(lines))
