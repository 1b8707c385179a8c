"""Figures in the pages, filled in from `results/`.

    python -m tests.benchmarks.published            # rewrites the pages
    python -m tests.benchmarks.published --check    # exit code 1 where a page and the results differ

A page marks a place with `<!-- figures: NAME -->` and `<!-- /figures -->`; NAME is a key of `FIGURES`. What is between
is generated. Needs the standard library only.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results"
PAGES = ("README.md", "*/README.md", "*/*/README.md")
MARK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- /figures -->)", re.DOTALL)
CORPORA = ("emodb", "ravdess")
Row = Mapping[str, Any]
HEADINGS = ("model", "parameters (EmoDB / RAVDESS)", "EmoDB, 7 classes", "RAVDESS, 8 classes")


def read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def quality_rows() -> dict[tuple[str, str], Row]:
    """Return the rows of `quality.json` by recipe and corpus."""
    return {(row["row"], row["corpus"]): row for row in read("quality")["rows"]}


def cell(row: Row | None) -> str:
    """Return a row's UAR with its interval, in percent; how many folds where not all were run."""
    if row is None:
        return "not run"
    interval = f"{100 * row['uar']:.1f} [{100 * row['uar_low']:.1f}, {100 * row['uar_high']:.1f}]"
    all_folds = {"emodb": 10, "ravdess": 5}[row["corpus"]]
    return interval if row["folds"] == all_folds else f"{row['folds']} of {all_folds} folds: {interval}"


def gain_cell(undistilled: str, corpus: str) -> str:
    """Return what distillation gains, with its interval, in points of UAR."""
    for gain in read("quality")["gains"]:
        if (gain["undistilled"], gain["corpus"]) == (undistilled, corpus):
            low, high = 100 * gain["low"], 100 * gain["high"]
            sure = "" if low > 0 or high < 0 else ", not sure"
            return f"{100 * gain['gain']:+.1f} [{low:+.1f}, {high:+.1f}]{sure}"
    return ""


def parameters(*rows: Row | None) -> str:
    counts = sorted({row["parameters"] for row in rows if row is not None})
    return " / ".join(f"{count:,}" for count in counts)


def recipe_table(recipes: Mapping[str, str]) -> str:
    """Return UAR on both corpora of recipes, with parameters and minutes."""
    rows = quality_rows()
    lines = []
    for recipe, title in recipes.items():
        found = [rows.get((recipe, corpus)) for corpus in CORPORA]
        minutes = " / ".join("-" if row is None else f"{row['minutes']:.0f}" for row in found)
        lines.append([title, parameters(*found), *map(cell, found), minutes])
    return table(
        [
            "model",
            "parameters (EmoDB / RAVDESS)",
            "EmoDB, 7 classes",
            "RAVDESS, 8 classes",
            "minutes (EmoDB / RAVDESS)",
        ],
        lines,
    )


def teachers() -> str:
    return recipe_table(
        {
            "whisper_base": "Whisper base, frozen, ridge regression",
            "whisper_tiny_en": "Whisper tiny.en, frozen, ridge regression",
            "compare_svm": "linear SVM on ComParE functionals",
            "egemaps_svm": "linear SVM on eGeMAPS functionals",
            "cnn_bilstm": "`cnn_bilstm` from scratch",
        }
    )


STUDENTS = {
    "`ridge` on ComParE functionals": ("linear_undistilled", "linear_distilled"),
    "`separable_cnn` on log-mel": ("student_undistilled", "student_distilled"),
    "`ridge` on ComParE, per-speaker normalisation": ("speaker_undistilled", "speaker_distilled"),
}


def students() -> str:
    """Return students without and with a teacher, and the gain."""
    rows = quality_rows()
    lines: list[list[str]] = []
    for title, (undistilled, distilled) in STUDENTS.items():
        plain = [rows.get((undistilled, corpus)) for corpus in CORPORA]
        with_teacher = [rows.get((distilled, corpus)) for corpus in CORPORA]
        lines.append([f"{title}, undistilled", parameters(*plain), *map(cell, plain)])
        lines.append(["the same, distilled", parameters(*with_teacher), *map(cell, with_teacher)])
        lines.append(["gain", "", *(gain_cell(undistilled, corpus) for corpus in CORPORA)])
    return table(["student", "parameters (EmoDB / RAVDESS)", "EmoDB", "RAVDESS"], lines)


def summary() -> str:
    """Return the three rows of the first page: reference, teacher, student."""
    rows = quality_rows()
    names = {
        "compare_svm": "reference: linear SVM on ComParE functionals",
        "whisper_base": "teacher: Whisper base, frozen",
        "linear_undistilled": "student: `ridge` on ComParE, undistilled",
        "linear_distilled": "student: `ridge` on ComParE, distilled",
    }
    lines = []
    for recipe, title in names.items():
        found = [rows.get((recipe, corpus)) for corpus in CORPORA]
        lines.append([title, parameters(*found), *map(cell, found)])
    lines.append(["gain of distillation", "", *(gain_cell("linear_undistilled", corpus) for corpus in CORPORA)])
    return table(HEADINGS, lines)


def int8() -> str:
    kept = {
        (row["model"], row["corpus"]): row["int8_same"]
        for row in read("quality")["rows"]
        if "int8_same" in row and row["row"].startswith(("linear", "student")) and row["distilled"]
    }
    lines = [[f"`{model}`", corpus, f"{100 * share:.1f} %"] for (model, corpus), share in sorted(kept.items())]
    return table(["student", "corpus", "same emotion with 8-bit weights"], lines)


def ingredients() -> str:
    return table(["recipe, same budget", "EmoDB", "RAVDESS"], read("ingredients")["rows"])


def features() -> str:
    lines = [
        [
            row["corpus"],
            f"{row['ours_ms']:.2f} ms",
            f"{row['librosa_ms']:.1f} ms",
            f"{row['speedup_vs_librosa']:.1f}",
            f"{row['speedup_vs_librosa_resampling']:.1f}",
            f"{row['speedup_vs_librosa_shared']:.1f}",
        ]
        for row in read("features")["rows"]
    ]
    headings = ["corpus", "platform, per clip", "librosa", "times faster", "with resampling", "librosa shared"]
    return table(headings, lines)


def throughput() -> str:
    study = read("throughput")["64"]
    titles = {
        "platform": "`ser tune`'s search, with journal and MLflow",
        "optuna": "plain Optuna in two processes, with MLflow, no Ray",
        "documented": "Ray Tune and MLflow as their documentation shows",
    }
    lines = [
        [
            titles[way["way"]],
            f"{way['wall_seconds']:.0f} s",
            str(way["epochs"]),
            f"{way['seconds_per_epoch']:.2f} s",
            f"{way['efficiency']:.2f}",
        ]
        for way in study["ways"]
    ]
    return table(["way", "wall", "epochs trained", "wall per epoch", "efficiency"], lines)


def overhead() -> str:
    found = read("overhead")
    lines = [
        ["a trial, median", f"{found['ms_per_trial']:.0f} ms"],
        ["a trial, mean", f"{found['mean_ms_per_trial']:.0f} ms"],
        ["last thousand over first thousand", f"{found['last_over_first_thousand']:.2f}"],
        ["memory of the driver, maximum", f"{found['driver_mb'] / 1024:.2f} GiB"],
        ["MLflow writes left when the last trial ended", f"{found['tracker_behind_seconds']:.0f} s"],
    ]
    return table([f"{found['trials']:,} empty trials", "measured"], lines)


def prediction() -> str:
    rows = read("predict")["rows"]
    lines = [[f"`{row['model']}`", f"{row['p50_ms']:.1f} ms", f"{row['p95_ms']:.1f} ms"] for row in rows]
    return table(["model", "median", "95 %"], lines)


def doctor() -> str:
    lines = [
        [row["format"], f"{row['measure_ms']:.1f} ms", f"{row['floor_ms']:.1f} ms", f"{row['clips_per_s']:,}"]
        for row in read("doctor")["rows"]
    ]
    return table(["3 s clip", "measured", "floor (decode, hash, STFT)", "clips per second"], lines)


def distillation() -> str:
    found = read("distillation")
    names = {"undistilled": "no teacher", "kl": "`kl`", "kl_and_hint": "`kl` and a hint"}
    lines = [
        [title, f"{found['epoch_s'][name]:.2f} s", f"{found['ratio'].get(name, 1.0):.2f}"]
        for name, title in names.items()
    ]
    return table(["epoch", "time", "ratio"], lines)


def tracking() -> str:
    found = read("tracking")
    walls = {name: sorted(seconds)[len(seconds) // 2] for name, seconds in found["wall_seconds"].items()}
    line = [f"{walls['untracked']:.0f} s", f"{walls['tracked']:.0f} s", f"{100 * found['added']:.1f} %"]
    return table(["study of 16 trials, untracked", "tracked", "added"], [line])


FIGURES: dict[str, Callable[[], str]] = {
    made.__name__: made
    for made in (
        teachers,
        students,
        summary,
        int8,
        ingredients,
        features,
        throughput,
        overhead,
        prediction,
        doctor,
        distillation,
        tracking,
    )
}


def fill(text: str) -> str:
    """Return a page with every marked place filled in.

    Raises:
        KeyError: a place names no key of `FIGURES`.
    """
    return MARK.sub(lambda match: match.group(1) + FIGURES[match.group(2)]() + match.group(3), text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 where a page differs")
    options = parser.parse_args()
    differ = []
    for page in sorted(path for pattern in PAGES for path in ROOT.glob(pattern)):
        text = page.read_text(encoding="utf-8")
        if (filled := fill(text)) != text:
            differ.append(str(page.relative_to(ROOT)))
            if not options.check:
                page.write_text(filled, encoding="utf-8")
    if differ and options.check:
        print(
            f"figures differ from tests/benchmarks/results in {', '.join(differ)}: "
            "run python -m tests.benchmarks.published",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
