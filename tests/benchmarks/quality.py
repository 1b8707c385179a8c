"""How good models are on real speech: the reference folds of EmoDB and RAVDESS, each recipe run once.

    python -m tests.benchmarks.quality [ROW ...] [--corpus emodb|ravdess] [--fold K] [--json]

A row is a recipe of `RECIPES` on a corpus. Its test predictions of all folds and seeds are pooled and scored together;
they are in `results/quality/`, from which the figure can be computed again. Recipes were chosen on dev speakers inside
the folds' training speakers; nothing here chooses. A recipe with `refit` has a fixed number of epochs and trains on
train and dev speakers together.

Finished folds are kept: a run can be stopped and started at any time. A changed recipe starts again, and `outer_runs`
counts how often the folds were run for a row. `--fold K` trains one fold again and compares it with what is published;
it writes nothing.
"""

import argparse
import csv
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from ser_platform.corpora.corpus_lookup import CorpusRequest
from ser_platform.corpora.lineage import Lineage
from ser_platform.corpora.splits.split import (
    Split,
    combine_protocol_stamps,
    find_sex_of_speakers,
    shuffle_balanced_by_sex,
)
from ser_platform.distillation.hint_targets import compute_encoder_embeddings
from ser_platform.distillation.outputs import OUT_OF_FOLD, TeacherOutputs
from ser_platform.errors import UnknownChoice, UserError
from ser_platform.evaluation.intervals import Interval, metric_intervals
from ser_platform.evaluation.paired_gain import ArmComparison, compare_arms
from ser_platform.evaluation.scoring import compute_stored_logits
from ser_platform.features.augmented_clips import NO_AUGMENTED_CLIPS, AugmentedClips, prepare_augmented_clips
from ser_platform.features.dataset import DataRequest, Dataset, add_features, prepare_dataset
from ser_platform.files import digest_of, replacing, write_json
from ser_platform.inference.bundle import Bundle
from ser_platform.inference.quantisation import dequantise, quantise
from ser_platform.metrics import uar
from ser_platform.progress import Display
from ser_platform.settings import Settings, SettingValue, corpora_folder, resolve
from ser_platform.training.configuration import count_prediction_parameters, feature_view, pin_settings, stamp_protocol
from ser_platform.training.hint_loss import NO_HINT
from ser_platform.tuning.execution.cluster import Cluster, connect_cluster
from ser_platform.tuning.execution.fit_job import FitJob, FitResult, TrialData
from ser_platform.tuning.execution.fit_pool import fit_all
from ser_platform.tuning.search_space.default_settings import choose_defaults
from ser_platform.tuning.teacher_labels.fold_teachers import FoldTeachers
from ser_platform.tuning.teacher_labels.unlabelled_pool import prepare_unlabelled

RESULTS = Path(__file__).parent / "results"
PUBLISHED = RESULTS / "quality.json"
COLUMNS = ("path", "fold", "seed", "truth", "predicted", "int8")  # the last of students alone: weights in 8 bits
CORPORA = ("emodb", "ravdess")


@dataclass(frozen=True)
class Recipe:
    """What a row trains. `seeds` are those of training; `refit` trains on train and dev speakers, without dev.

    `teacher` names the row whose recipe labels the training clips of one that distils, out of fold; `unlabelled` the
    corpus whose speech joins that distillation without its labels, by the corpus that is learnt.
    """

    role: str
    settings: dict[str, SettingValue]
    seeds: tuple[int, ...] = (0, 1, 2)
    refit: bool = False
    start: str = "teacher"
    teacher: str = ""
    unlabelled: Mapping[str, str] = field(default_factory=dict)

    def resolved(self, seed: int) -> Settings:
        """Return every setting of a run."""
        return pin_settings(resolve(choose_defaults(self.start, self.settings) | self.settings | {"seed": seed}))

    @property
    def digest(self) -> str:
        """The hash of this recipe; settings with their default value are left out, so a new setting changes none."""
        usual = Settings().dotted()
        runs = [
            {name: value for name, value in self.resolved(seed).dotted().items() if value != usual[name]}
            for seed in self.seeds
        ]
        teacher = {"teacher": RECIPES[self.teacher].digest} if self.teacher else {}
        more = {"unlabelled": dict(self.unlabelled)} if self.unlabelled else {}
        return digest_of({"runs": runs, "refit": self.refit, **teacher, **more}, 12)


# Layers, statistics, penalty and copies were decided on dev speakers inside the folds' training speakers.
FROZEN: dict[str, SettingValue] = {
    "model.name": "pretrained",
    "features.dtype": "float16",
    "augment.copies": 2,
    "augment.recipe": "threefold_speed",
}
SVM: dict[str, SettingValue] = {"model.name": "svm_linear"}
# Decided in the same way; the same for both arms but for the teacher.
STUDENT: dict[str, SettingValue] = {
    "model.name": "separable_cnn",
    "model.width": 20,
    "data.trim_db": 30.0,
    "data.max_seconds": 4.0,
    "augment.copies": 2,
    "augment.recipe": "threefold_speed",
    "augment.masks": 2,
    "augment.filter": 0.2,
    "train.epochs": 24,
    "optimizer.lr": 4e-3,
    "optimizer.weight_decay": 0.05,
}
LINEAR: dict[str, SettingValue] = {"model.name": "ridge", "model.ridge": 0.1, "features.sets": ("compare",)}
OF_SPEAKER: dict[str, SettingValue] = {"features.normalise": "speaker"}
DISTILLED: dict[str, SettingValue] = {"distill.alpha": 0.9, "distill.temperature": 2.0, "distill.hint": "cosine"}
RECIPES: dict[str, Recipe] = {
    "whisper_base": Recipe("teacher", FROZEN | {"model.backbone": "whisper-base-encoder"}, seeds=(0,), refit=True),
    "whisper_tiny_en": Recipe(
        "teacher", FROZEN | {"model.backbone": "whisper-tiny.en-encoder"}, seeds=(0,), refit=True
    ),
    "cnn_bilstm": Recipe("teacher", {"model.name": "cnn_bilstm"}, seeds=(0,)),
    "egemaps_svm": Recipe("reference", SVM | {"features.sets": ("egemaps",)}, seeds=(0,), refit=True),
    "compare_svm": Recipe("reference", SVM | {"features.sets": ("compare",)}, seeds=(0,), refit=True),
    "student_undistilled": Recipe("student", STUDENT, refit=True, start="student"),
    "student_distilled": Recipe(
        "student",
        STUDENT | DISTILLED,
        refit=True,
        start="student",
        teacher="whisper_base",
        unlabelled={"emodb": "ravdess"},  # the other way round was tried on one dev fold alone, and gave nothing
    ),
    # One hyperplane a class, solved at once: no seed changes it.
    "linear_undistilled": Recipe("student", LINEAR, refit=True, start="student"),
    "linear_distilled": Recipe(
        "student", LINEAR | {"distill.alpha": 0.7}, refit=True, start="student", teacher="whisper_base"
    ),
    # These use every clip of a test speaker before the first prediction: rows of their own, which meet no aim.
    "speaker_undistilled": Recipe("student", LINEAR | OF_SPEAKER, refit=True, start="student"),
    "speaker_distilled": Recipe(
        "student", LINEAR | OF_SPEAKER | {"distill.alpha": 0.7}, refit=True, start="student", teacher="whisper_base"
    ),
}
PAIRS = (
    ("student_undistilled", "student_distilled"),
    ("linear_undistilled", "linear_distilled"),
    ("speaker_undistilled", "speaker_distilled"),
)
TEACHER_FOLDS = 6  # of a fold's training speakers, each labelled by a teacher that was not trained on them


@dataclass
class Row:
    """A recipe on a corpus: the predictions made so far, by (fold, seed), and the minutes they took."""

    name: str
    corpus: str
    recipe: Recipe
    predictions: dict[tuple[str, int], list[dict[str, str]]] = field(default_factory=dict)
    minutes: float = 0.0
    outer_runs: int = 1

    @property
    def path(self) -> Path:
        """The CSV of its predictions."""
        return RESULTS / "quality" / f"{self.corpus}-{self.name}.csv"

    @classmethod
    def begun(cls, name: str, corpus: str) -> "Row":
        """Return the row as far as it was done before; from the start where its recipe is another now."""
        row = cls(name, corpus, RECIPES[name])
        before = next((old for old in published() if (old["row"], old["corpus"]) == (name, corpus)), None)
        if before is None:
            return row
        if before["recipe"] != row.recipe.digest:
            row.outer_runs = before["outer_runs"] + 1
            return row
        row.minutes, row.outer_runs = before["minutes"], before["outer_runs"]
        with row.path.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                row.predictions.setdefault((line["fold"], int(line["seed"])), []).append(line)
        return row

    def add(self, split: Split, seed: int, found: "Found", labels: tuple[str, ...]) -> None:
        """Take in the test predictions of a fold and seed."""
        self.predictions[split.fold, seed] = prediction_lines(split, seed, found, labels)

    def write(self) -> None:
        """Write all predictions so far."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            columns = COLUMNS if self.recipe.role == "student" else COLUMNS[:-1]
            writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            for key in sorted(self.predictions):
                writer.writerows(self.predictions[key])

    @property
    def int8_same(self) -> float:
        """The share of clips with the same prediction by 8-bit weights, in [0, 1]."""
        lines = [line for part in self.predictions.values() for line in part]
        return round(sum(line["int8"] == line["predicted"] for line in lines) / len(lines), 5)

    def interval(self, dataset: Dataset) -> Interval:
        """Return the pooled UAR; with several seeds, a clip counts once for each."""
        lines = [line for part in self.predictions.values() for line in part]
        speaker_of = dict(zip(paths_of(dataset), dataset.manifest.column("speaker"), strict=True))
        truth, predicted = ([dataset.labels.index(line[key]) for line in lines] for key in ("truth", "predicted"))
        speakers = np.array([speaker_of[line["path"]] for line in lines])
        return metric_intervals(np.array(truth), np.array(predicted), speakers, dataset.labels)["uar"]

    def as_json(self, dataset: Dataset) -> dict[str, Any]:
        """Return the row as it is published."""
        settings, found = self.recipe.resolved(self.recipe.seeds[0]), self.interval(dataset)
        return {
            "row": self.name,
            "corpus": self.corpus,
            "role": self.recipe.role,
            "model": settings.model.name,
            "distilled": settings.distill.alpha > 0,
            **({"unlabelled": more} if (more := self.recipe.unlabelled.get(self.corpus)) else {}),
            "parameters": count_prediction_parameters(settings, len(dataset.labels)),
            "uar": round(found.value, 4),
            "uar_low": round(found.low, 4),
            "uar_high": round(found.high, 4),
            "protocol": stamp_protocol(combine_protocol_stamps(dataset.splits), settings).replace(
                f"{corpora_folder()}/", ""
            ),
            "normalisation": settings.features.normalise,
            "trained_on": "train and dev speakers, fixed epochs"
            if self.recipe.refit
            else "train speakers, best dev epoch",
            "seeds": len(self.recipe.seeds),
            "folds": len({fold for fold, _ in self.predictions}),
            "outer_runs": self.outer_runs,
            "minutes": round(self.minutes, 1),
            **({"int8_same": self.int8_same} if self.recipe.role == "student" else {}),
            "predictions": f"quality/{self.path.name}",
            "recipe": self.recipe.digest,
        }


@dataclass(frozen=True)
class Found:
    """The classes of the test clips of a fold, `(n_test,)`: by the model, and by its weights in 8 bits."""

    predicted: NDArray[np.int64]
    int8: NDArray[np.int64]


def prediction_lines(split: Split, seed: int, found: Found, labels: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the lines of a fold."""
    clips = split.manifest.take(split.test)
    columns = (clips.column("path"), clips.column("emotion"), found.predicted, found.int8)
    return [
        dict(zip(COLUMNS, (relative(path), split.fold, str(seed), truth, labels[whole], labels[small]), strict=True))
        for path, truth, whole, small in zip(*columns, strict=True)
    ]


def relative(path: str) -> str:
    """Return a clip's path within the folder of corpora."""
    root = corpora_folder()
    assert root is not None
    return Path(path).relative_to(root).as_posix()


def paths_of(dataset: Dataset) -> list[str]:
    """Return the paths of all clips, as published."""
    return [relative(path) for path in dataset.manifest.column("path")]


def published(kind: str = "rows") -> list[dict[str, Any]]:
    """Return the `rows` or the `gains` of the last published result."""
    return json.loads(PUBLISHED.read_text(encoding="utf-8")).get(kind, []) if PUBLISHED.exists() else []


def publish(row: dict[str, Any]) -> None:
    """Put a row in the place of the one before."""
    others = [old for old in published() if (old["row"], old["corpus"]) != (row["row"], row["corpus"])]
    rows = sorted([*others, row], key=lambda one: (one["corpus"], one["role"], one["row"]))
    write_json(PUBLISHED, {"rows": rows, "gains": published("gains")})


def publish_gains(corpora: Sequence[str], display: Display) -> None:
    """Compare the arms of every pair that is complete on a corpus, print the gain and publish it."""
    done = {(row["row"], row["corpus"]) for row in published()}
    gains = {(gain["distilled"], gain["corpus"]): gain for gain in published("gains")}
    for corpus in corpora:
        for undistilled, distilled in PAIRS:
            if {(undistilled, corpus), (distilled, corpus)} <= done:
                found = gain((undistilled, distilled), corpus, display)
                display.print_line(f"{corpus}, {distilled} over {undistilled}: {found.verdict}")
                gains[distilled, corpus] = {
                    "corpus": corpus,
                    "undistilled": undistilled,
                    "distilled": distilled,
                    "gain": round(found.gain.value, 4),
                    "low": round(found.gain.low, 4),
                    "high": round(found.gain.high, 4),
                }
    write_json(PUBLISHED, {"rows": published(), "gains": [gains[key] for key in sorted(gains)]})


def predictions_of(
    dataset: Dataset, split: Split, recipe: Recipe, seeds: Sequence[int], where: Cluster, display: Display
) -> list[Found]:
    """Train on a fold with each seed; return the predictions of each for its test clips."""
    settings = recipe.resolved(seeds[0])
    if recipe.refit:
        both = np.sort(np.concatenate([split.train, split.dev]))
        split = replace(split, train=both, dev=np.empty(0, dtype=np.int64))
    copies = augment(split, settings, settings)
    more = recipe.unlabelled.get(dataset.name, "")
    lesson = make_lesson(dataset, split, recipe, copies, more, where, display) if recipe.teacher else Lesson()
    task = TrialData.from_split(
        split, dataset.labels, lesson.outputs, copies, hints=lesson.hints, unlabelled_hashes=lesson.unlabelled
    )
    jobs = [
        FitJob(recipe.resolved(seed).with_overrides({"distill.unlabelled": more}), task, label_rows=split.test)
        for seed in seeds
    ]
    with display.show_progress(f"fold {split.fold}, seeds {', '.join(map(str, seeds))}") as progress:
        fits = fit_all(jobs, where, progress)
    return [_found(job, done, recipe.role) for job, done in zip(jobs, fits, strict=True)]


def _found(job: FitJob, done: FitResult, role: str) -> Found:
    predicted, task, settings = done.label_logits.argmax(axis=1), job.data, job.settings
    if role != "student":
        return Found(predicted, predicted)
    small = Bundle(
        role=role,
        settings=settings,
        view=feature_view(settings),
        labels=task.labels,
        state=dequantise(quantise(done.state)),
        normaliser=done.normaliser,
        temperature=1.0,
        protocol="",
        metrics={},
        lineage=Lineage(),
    )
    return Found(predicted, compute_stored_logits(small, task.hashes, task.speakers, job.label_rows).argmax(axis=1))


def augment(split: Split, settings: Settings, model: Settings) -> AugmentedClips:
    """Return the augmented copies that `settings` name, with the features that `model` needs stored."""
    if not settings.augment.copies:
        return NO_AUGMENTED_CLIPS
    recipes = [(settings.augment.recipe, settings.augment.copies)]
    return prepare_augmented_clips(split, recipes, feature_view(model).required_families, dtype=model.features.dtype)


@dataclass(frozen=True)
class Lesson:
    """What a teacher gives to the students of a fold: see `TrialData`."""

    outputs: dict[str, TeacherOutputs] = field(default_factory=dict)
    hints: NDArray[np.float32] | None = None
    unlabelled: tuple[str, ...] = ()


def make_lesson(
    dataset: Dataset, split: Split, recipe: Recipe, copies: AugmentedClips, more: str, where: Cluster, display: Display
) -> Lesson:
    """Return the outputs of fold teachers, by the recipe of the teacher's row, for training clips, copies and
    unlabelled clips, and the embeddings of all of these where the recipe has a hint.
    """
    student = recipe.resolved(recipe.seeds[0])
    row = RECIPES[recipe.teacher]
    teacher = row.resolved(row.seeds[0])
    add_features(dataset, feature_view(teacher).required_families, teacher.features.dtype, display)
    augment(split, student, teacher)
    digests: tuple[str, ...] = ()
    if more:
        views = [(feature_view(each).required_families, each.features.dtype) for each in (student, teacher)]
        digests = prepare_unlabelled(more, views, [split], display.show_progress).hashes
    inside = split.manifest.take(split.train)
    order = np.array(
        shuffle_balanced_by_sex(inside.speakers, find_sex_of_speakers(inside), np.random.default_rng(0)), dtype=str
    )
    parts = [tuple(sorted(map(str, part))) for part in np.array_split(order, min(TEACHER_FOLDS, len(order)))]
    groups = [split.speakers("dev"), *parts]
    folds = FoldTeachers(split, teacher, teacher.train.epochs, row.digest, where, display.show_progress, groups)
    hints = None
    if recipe.settings.get("distill.hint", NO_HINT) != NO_HINT:
        hints = compute_encoder_embeddings(teacher, (*dataset.hashes, *copies.hashes, *digests))
    return Lesson({OUT_OF_FOLD: folds.label_split(split, OUT_OF_FOLD, copies, digests)}, hints, digests)


def dataset_of(corpus: str, recipe: Recipe | None, display: Display) -> Dataset:
    """Return a corpus on its reference folds, with the features that a recipe needs stored."""
    root = corpora_folder()
    if root is None:
        raise SystemExit("set SER_CORPORA to the folder of the corpora")
    request = DataRequest(CorpusRequest(corpus), protocol=f"fixed:{root / 'splits' / corpus}.csv")
    if recipe is None:
        return prepare_dataset(request, display, names=())
    settings = recipe.resolved(recipe.seeds[0])
    return prepare_dataset(
        request, display, names=feature_view(settings).required_families, dtype=settings.features.dtype
    )


def missing(row: Row, dataset: Dataset) -> Iterator[tuple[Split, list[int]]]:
    """Yield the folds that are still to do, with the seeds that each lacks."""
    for split in dataset.splits:
        seeds = [seed for seed in row.recipe.seeds if (split.fold, seed) not in row.predictions]
        if seeds:
            yield split, seeds


def run(name: str, corpus: str, where: Cluster, display: Display) -> dict[str, Any]:
    """Do what is left of a row, writing after each fold; return it."""
    began = time.monotonic()
    row = Row.begun(name, corpus)
    dataset = dataset_of(corpus, row.recipe, display)
    for split, seeds in missing(row, dataset):
        found = predictions_of(dataset, split, row.recipe, seeds, where, display)
        for seed, each in zip(seeds, found, strict=True):
            row.add(split, seed, each, dataset.labels)
        now = time.monotonic()
        row.minutes, began = row.minutes + (now - began) / 60, now
        row.write()
        publish(row.as_json(dataset))
        targets = split.manifest.encode_targets(dataset.labels)[split.test]
        uars = ", ".join(f"{uar(targets, each.predicted, len(dataset.labels)):.3f}" for each in found)
        display.print_line(f"{corpus} {name}: fold {split.fold}: UAR {uars}, {60 * row.minutes:.0f} s")
    return row.as_json(dataset)


def gain(pair: tuple[str, str], corpus: str, display: Display) -> ArmComparison:
    """Return what the second row gains over the first on a corpus, by their published predictions."""
    rows = [Row.begun(name, corpus) for name in pair]
    dataset = dataset_of(corpus, None, display)
    speaker_of = dict(zip(paths_of(dataset), dataset.manifest.column("speaker"), strict=True))
    seeds, folds = rows[0].recipe.seeds, [split.fold for split in dataset.splits]
    lines = [[[line for fold in folds for line in row.predictions[fold, seed]] for seed in seeds] for row in rows]
    first, second = (
        np.array([[dataset.labels.index(line["predicted"]) for line in run] for run in arm]) for arm in lines
    )
    targets = np.array([dataset.labels.index(line["truth"]) for line in lines[0][0]])
    return compare_arms(targets, first, second, np.array([speaker_of[line["path"]] for line in lines[0][0]]))


def repeat(name: str, corpus: str, fold: int, where: Cluster, display: Display) -> None:
    """Train one fold again and print how many predictions equal the published ones."""
    row = Row.begun(name, corpus)
    dataset = dataset_of(corpus, row.recipe, display)
    if not 1 <= fold <= len(dataset.splits):
        raise UserError(f"--fold {fold}: {corpus} has the folds 1 to {len(dataset.splits)}")
    split = dataset.splits[fold - 1]
    found = predictions_of(dataset, split, row.recipe, row.recipe.seeds, where, display)
    for seed, each in zip(row.recipe.seeds, found, strict=True):
        now = prediction_lines(split, seed, each, dataset.labels)
        before = row.predictions.get((split.fold, seed))
        right = sum(line["truth"] == line["predicted"] for line in now)
        same = "not published" if before is None else f"{sum(map(_same, now, before))} as published"
        display.print_line(f"{corpus} {name}: fold {split.fold}, seed {seed}: {right} of {len(now)} right; {same}")


def _same(line: dict[str, str], other: dict[str, str]) -> bool:
    return all(line[name] == other[name] for name in COLUMNS[:-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"default: all of {', '.join(RECIPES)}")
    parser.add_argument("--corpus", choices=CORPORA, help="default: both")
    parser.add_argument("--fold", type=int, help="train one fold again and compare; writes nothing")
    parser.add_argument("--gains", action="store_true", help="compare the published predictions only; trains nothing")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    options = parser.parse_args()
    display = Display(Console(quiet=options.json))
    if options.gains:
        publish_gains(CORPORA, display)
        return
    rows = []
    corpora = (options.corpus,) if options.corpus else CORPORA
    for name in (name for name in options.rows if name not in RECIPES):
        raise UnknownChoice("row", name, RECIPES)
    with connect_cluster() as where:
        for name in options.rows or RECIPES:
            for corpus in corpora:
                if options.fold is not None:
                    repeat(name, corpus, options.fold, where, display)
                else:
                    rows.append(run(name, corpus, where, display))
    if not options.json:
        for row in rows:
            spread = f"[{row['uar_low']:.3f}, {row['uar_high']:.3f}]"
            print(f"{row['corpus']:<8} {row['row']:<24} UAR {row['uar']:.3f} {spread}  {row['minutes']:.1f} min")
    publish_gains(corpora, display)
    print(json.dumps({"rows": rows or published(), "gains": published("gains")}))


if __name__ == "__main__":
    main()
