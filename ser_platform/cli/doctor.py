"""`ser corpora doctor`: would this corpus spoil an experiment?"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ser_platform.cli.options import DataOptions, JsonOption
from ser_platform.cli.output import console, error_console, make_table, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from ser_platform.corpora.doctor.diagnosis import Finding
    from ser_platform.corpora.doctor.examination import Examination

MAX_NAMED_CASES = 6  # cases that a finding names on a terminal; the page and the JSON have all
FILE_BY_FILE_CODES = frozenset({"misfits", "repeated-ids", "unreadable"})  # to be mended file by file
MAX_FILE_CASES = 40
BAR_COLUMNS = 40  # columns
MAX_INLINE_CHARS = 16  # letters; cases so short stand in one line
STYLES = {"spoils": "bold red", "beware": "yellow", "note": "cyan"}


def doctor(
    corpus: Annotated[str, typer.Argument(help="Name or folder; several: ravdess+emodb.")],
    as_name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Read the folder as this corpus.")] = None,
    labels: Annotated[str | None, typer.Option(metavar="RULES", help="Which emotions count as what.")] = None,
    speaker_from: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Finds the speaker in a clip's path within its corpus.")
    ] = None,
    speaker_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of metadata.csv that says who speaks.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="OURS=THEIRS", help="Column of metadata.csv that holds one of ours."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the default split.")] = 0,
    max_bad: Annotated[float, typer.Option(min=0.0, max=1.0, help="Largest share of unusable files.")] = 0.05,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a core.")] = None,
    as_json: JsonOption = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the page goes; default: runs/doctor-CORPUS.html.")
    ] = None,
) -> None:
    """Look for what would spoil an experiment: copies, wrong labels, unreadable files, missing speakers.

    Every file is decoded. Clips are compared by the hash of their samples, and by fingerprints that see through gain,
    resampling, codecs, trimming and a little noise. Exit code 1 when something spoils, else 0.
    """
    from ser_platform.corpora.doctor.diagnosis import diagnose
    from ser_platform.corpora.doctor.examination import examine
    from ser_platform.corpora.doctor.examination_page import write_page
    from ser_platform.corpora.doctor.examination_report import build_report, has_spoiling_finding
    from ser_platform.progress import Display
    from ser_platform.settings import runs_folder

    request = DataOptions(as_name, labels, speaker_from, speaker_column, columns).corpus_request(corpus)
    with Display(error_console()).show_progress("listened to") as progress:
        examination = examine(request, seed, jobs, progress)
    findings = diagnose(examination, max_bad)
    page = html or runs_folder() / f"doctor-{_file_name(corpus)}.html"
    write_page(examination, findings, page)
    if as_json:
        print_json({**build_report(examination, findings), "page": str(page)})
    else:
        _print(examination, findings, console())
        print(f"page: {page}")
    if has_spoiling_finding(findings):
        raise typer.Exit(1)


def _file_name(corpus: str) -> str:
    """Return a name for the page of what was asked for, so that two folders of one corpus have two pages."""
    return re.sub(r"[^\w+-]+", "-", corpus).strip("-")[-100:]


def _print(exam: "Examination", findings: "list[Finding]", out: "Console") -> None:
    from ser_platform.corpora.doctor.examination_report import escape_unprintable, group_by_level

    n_speakers, minutes = len(exam.manifest.speakers), sum(clip.seconds for clip in exam.measures) / 60
    out.print(
        f"{escape_unprintable(exam.collected.name)}: {len(exam.manifest)} clips, {minutes:.1f} minutes, {n_speakers} "
        "speakers, "
        f"{len(exam.manifest.labels)} emotions",
        markup=False,
        highlight=False,
    )
    if len(exam.manifest):
        _print_counts(exam, out)
        _print_durations(exam, out)
    for level, found in group_by_level(findings).items():
        for finding in found:
            _print_finding(level, finding, out)
    n_spoiling = len(group_by_level(findings)["spoils"])
    verdict = "nothing here spoils an experiment"
    if n_spoiling:
        verdict = f"{n_spoiling} finding{'s' if n_spoiling > 1 else ''} would spoil an experiment"
    out.print(verdict, style=STYLES["spoils"] if n_spoiling else "bold green", highlight=False)


def _print_finding(level: str, finding: "Finding", out: "Console") -> None:
    from rich.text import Text

    from ser_platform.corpora.doctor.examination_report import escape_unprintable

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


def _print_counts(exam: "Examination", out: "Console") -> None:
    from rich.markup import escape

    from ser_platform.corpora.doctor.examination_report import (
        SPEAKERS_SHOWN,
        count_clips_by_speaker_and_emotion,
        escape_unprintable,
    )

    counts, labels = count_clips_by_speaker_and_emotion(exam), exam.manifest.labels
    if len(counts) > SPEAKERS_SHOWN:
        rows = []
        for label in labels:
            having = sorted(row[label] for row in counts.values() if row[label])
            spread = [str(having[0]), str(having[len(having) // 2]), str(having[-1])]
            rows.append([label, str(sum(having)), str(len(having)), *spread])
        headers = ["emotion", "clips", "speakers", "least a speaker", "median", "most"]
        out.print(make_table(f"Clips of {len(counts)} speakers", headers, rows))
        return
    rows = [
        [escape(escape_unprintable(speaker)), *(str(row[label]) for label in labels), str(sum(row.values()))]
        for speaker, row in counts.items()
    ]
    sums = [sum(row[label] for row in counts.values()) for label in labels]
    rows.append(["all", *map(str, sums), str(sum(sums))])
    out.print(make_table("Clips", ["speaker", *labels, "all"], rows))


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
    lines.append(f"Speech over noise: {snr:.0f} dB, pauses: {pauses:.0%} (medians, estimated)")
    out.print("\n".join(lines), markup=False, highlight=False)
