"""Every setting of a training configuration: its dotted name, default, valid values and meaning.

A configuration is a plain dictionary from dotted names to values; search spaces, `--set`, MLflow params and bundles all
speak it. Folders come from the environment, and are asked for when needed, never at import.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import yaml

from ser_platform.errors import UnknownChoice, UserError
from ser_platform.files import expand_path

Settings = dict[str, Any]
# The same for every trial: they decide what a study is about.
OF_A_STUDY = ("data.labels", "data.folds", "features.dtype")


@dataclass(frozen=True)
class Setting:
    """One setting. `choices` are the valid values; `low`, `high` the inclusive range of a number.

    Beside its choices a set can hold words that match `pattern`, which whoever uses them checks.
    """

    default: Any
    help: str
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    low: float | None = None
    high: float | None = None

    def checked(self, name: str, value: Any) -> Any:
        """Return `value` in the default's type.

        Raises:
            UserError: the value is of another type, out of range or not among the choices.
        """
        if isinstance(self.default, tuple):
            return self._checked_set(name, value)
        if isinstance(self.default, bool):
            return self._checked_bool(name, value)
        if isinstance(self.default, str):
            return self._checked_choice(name, value)
        return self._checked_number(name, value)

    def _checked_set(self, name: str, value: Any) -> tuple[str, ...]:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not items or not all(isinstance(item, str) for item in items):
            raise UserError(f"{name} must be a list with at least one of {', '.join(self.choices)}; got {value!r}")
        others = [item for item in dict.fromkeys(items) if self.pattern and re.fullmatch(self.pattern, str(item))]
        for item in items:
            if item not in others:
                self._checked_choice(name, item)
        return (*(choice for choice in self.choices if choice in items), *others)

    def _checked_bool(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise UserError(f"{name} must be true or false; got {value!r}")
        return value

    def _checked_choice(self, name: str, value: Any) -> str:
        if self.choices and value not in self.choices:
            raise UnknownChoice(name, value, self.choices)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise UserError(f"{name} must be a word; got {value!r}")
        return str(value)  # YAML reads the preset 7 as a number

    def _checked_number(self, name: str, value: Any) -> int | float:
        number = _number(value)
        whole = isinstance(self.default, int)
        if number is None or (whole and number != int(number)):
            raise UserError(f"{name} must be {'a whole number' if whole else 'a number'}; got {value!r}")
        if (self.low is not None and number < self.low) or (self.high is not None and number > self.high):
            raise UserError(f"{name} must be {self._range()}; got {value!r}")
        return int(number) if whole else number

    def _range(self) -> str:
        low = "" if self.low is None else f"at least {self.low:g}"
        high = "" if self.high is None else f"at most {self.high:g}"
        return " and ".join(part for part in (low, high) if part)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)  # YAML reads 1e-3 as a string
    except (ValueError, OverflowError):
        return None
    return number if number == number and abs(number) != float("inf") else None


SETTINGS: dict[str, Setting] = {
    "data.labels": Setting(
        "as_labelled", "which emotions count as what: as_labelled, shared, 4, 6, 7 or 8, then rules like 'drop calm'"
    ),
    "data.folds": Setting(
        0,
        "folds of a study's trials: each trains so many models, kept from other speakers of train and dev, and is "
        "scored by the mean dev UAR; 0 trains one, judged by dev",
        low=0,
        high=20,
    ),
    "data.max_seconds": Setting(
        3.0,
        "longest part of a clip that a model sees, in seconds; features of whole clips ignore it",
        low=0.2,
        high=60.0,
    ),
    "data.crop": Setting(
        "centre",
        "which part of a longer clip is kept; random draws another in every epoch, and judges by the centre",
        choices=("head", "centre", "random"),
    ),
    "data.skip_s": Setting(
        0.0, "seconds skipped at the start of every clip, often silence; 0.1 s are always left", low=0.0, high=10.0
    ),
    "data.min_seconds": Setting(
        0.0,
        "shorter clips are continued up to this, in seconds (see data.pad); 0 leaves each its length",
        low=0.0,
        high=60.0,
    ),
    "data.pad": Setting(
        "zeros",
        "what continues a clip up to data.min_seconds: zeros (each column's mean, once scaled), the clip again "
        "(repeat), or the clip backwards and forwards (reflect)",
        choices=("zeros", "repeat", "reflect"),
    ),
    "data.trim_db": Setting(
        0.0,
        "cut off both ends of a clip what is this many dB under its loudest frame, for instance 30; 0 keeps the ends",
        low=0.0,
        high=100.0,
    ),
    "data.level_dbfs": Setting(
        0.0,
        "bring every clip to this level, in dB under full scale, for instance -20; 0 keeps the levels, which tell of "
        "anger but also of the microphone",
        low=-60.0,
        high=0.0,
    ),
    "features.sets": Setting(
        ("log_mel",),
        "features, side by side where they have the same frames: families, or the set of a published system; or what "
        "a pretrained encoder makes of a clip, ENCODER.statistics (one row) or ENCODER.frames",
        choices=(
            *("log_mel", "mfcc", "zcr", "rms", "mfcc_delta", "f0", "chroma", "centroid", "bandwidth", "rolloff"),
            *("flatness", "contrast", "tonnetz", "vector180", "vector184", "vector193", "frames201", "chunks128"),
            *("egemaps", "compare", "waveform"),
        ),
        pattern=r".+\.(statistics|frames)",
    ),
    "features.n_mfcc": Setting(20, "how many of the 40 stored MFCC, and of their deltas, are used", low=1, high=40),
    "features.dtype": Setting(
        "float32", "how features are stored; float16 is half the size, with 3 digits", choices=("float32", "float16")
    ),
    "features.pool": Setting(
        "none",
        "statistics over a clip's frames in place of the frames: one row, for models that hear no order in time",
        choices=("none", "mean", "mean_std", "mean_std_min_max", "percentiles"),
    ),
    "features.chunk": Setting(
        0,
        "frames of a chunk: a model hears chunks, and a clip's logits are the mean over its own; 0 hears whole clips",
        low=0,
        high=6000,
    ),
    "features.chunk_hop": Setting(
        0, "frames from one chunk to the next; 0 is features.chunk: chunks side by side", low=0, high=6000
    ),
    "features.normalise": Setting(
        "global",
        "whose mean and deviation scale the features: all training clips' (global), each clip's own (utterance), all "
        "clips' of its speaker (speaker; it must know the test speakers' clips, and is stamped on the protocol), or "
        "nobody's (none; under global an encoder that is tuned hears its samples so too)",
        choices=("global", "utterance", "speaker", "none"),
    ),
    "model.name": Setting("cnn_bilstm", "architecture"),
    "model.hidden_size": Setting(
        0,
        "units of the (recurrent) hidden layers, in one direction; 0 is the architecture's own size",
        low=0,
        high=1024,
    ),
    "model.layers": Setting(0, "stacked layers or blocks; 0 is the architecture's own number", low=0, high=16),
    "model.width": Setting(0, "channels of the first convolution; 0 is the architecture's own width", low=0, high=256),
    "model.dropout": Setting(0.3, "dropout before the classifier", low=0.0, high=0.9),
    "model.subsample": Setting(0, "frames stacked into one step; 0 is the architecture's own number", low=0, high=16),
    "model.chunk": Setting(
        0, "frames of the chunks into which chunk_cnn_lstm cuts a clip; 0 is the published 128", low=0, high=6000
    ),
    "model.norm": Setting(
        "batch",
        "normalisation of convolutional and dense models: batch, or layer, which is the same on any number of workers",
        choices=("batch", "layer"),
    ),
    "model.backbone": Setting(
        "whisper-base-encoder",
        "pretrained speech encoder: a folder's name under SER_PRETRAINED, a path, or a name of the Hugging Face hub",
    ),
    "model.tuning": Setting(
        "frozen",
        "what of the encoder is trained: nothing (frozen; its outputs are computed once and stored), its last "
        "model.tuned_layers layers (top), all of it (full), or low-rank adapters (lora)",
        choices=("frozen", "top", "full", "lora"),
    ),
    "model.tuned_layers": Setting(2, "encoder layers that are trained under model.tuning top", low=1, high=48),
    "model.lora_rank": Setting(8, "rank of the adapters under model.tuning lora", low=1, high=256),
    "model.states": Setting(
        "middle",
        "hidden states of a pretrained encoder that are heard: all, or without what enters the first layer and what "
        "leaves the last (middle; of an encoder that is tuned the last one too)",
        choices=("middle", "all"),
    ),
    "model.classifier": Setting(
        "mlp",
        "classifier on a pretrained encoder: ridge regression, fitted at once on statistics of a frozen encoder "
        "(ridge), or a hidden layer that is trained (mlp)",
        choices=("ridge", "mlp"),
    ),
    "model.ridge": Setting(
        0.2, "penalty of the ridge regression, against the mean square of a clip's columns", low=1e-6, high=1e6
    ),
    "model.relevance": Setting(
        1.0,
        "model.name ridge weighs a column by its correlation with what is learnt, to this power; 0 weighs all alike",
        low=0.0,
        high=4.0,
    ),
    "model.mixing": Setting(
        "stacked",
        "how these layers are joined: side by side (stacked), or added with one learnt weight each (weighted)",
        choices=("stacked", "weighted"),
    ),
    "model.pooling": Setting(
        "statistics",
        "how encoder frames become one row: mean and deviation of all and of the loud ones (statistics), or both "
        "weighted by attention",
        choices=("statistics", "attention"),
    ),
    "model.head_size": Setting(
        128, "hidden units of the classifier on a pretrained encoder, where it has any (mlp)", low=4, high=4096
    ),
    "model.adversary": Setting(
        0.0,
        "weight of the adversary that must not tell languages apart (gradient reversal); 0 is off",
        low=0.0,
        high=10.0,
    ),
    "model.checkpointing": Setting(
        False, "compute encoder activations again in the backward pass: less memory, a third more time"
    ),
    "model.c": Setting(
        0.0,
        "how much a wrong training clip costs support vector machines and logistic regression, against a wide margin; "
        "0 takes the best of a few by cross-validation over the training speakers",
        low=0.0,
        high=1e6,
    ),
    "model.gamma": Setting(
        0.0,
        "width of the kernels of svm_rbf and svm_poly: gamma; 0 is 1 / (columns x their variance)",
        low=0.0,
        high=1e3,
    ),
    "model.degree": Setting(3, "degree of the kernel of svm_poly", low=1, high=8),
    "model.trees": Setting(100, "trees of forest, bagging and adaboost, rounds of boosting", low=1, high=5000),
    "model.depth": Setting(
        0, "most levels of a tree; 0 is no limit, and 3 where trees are boosted (adaboost, boosting)", low=0, high=100
    ),
    "model.leaf": Setting(1, "fewest training clips in a leaf of a tree", low=1, high=1000),
    "model.learning_rate": Setting(0.1, "share of a tree that adaboost and boosting add", low=1e-4, high=10.0),
    "model.neighbours": Setting(
        5,
        "nearest training clips that vote in knn, which train.sampling can balance but class weights cannot",
        low=1,
        high=500,
    ),
    "augment.masks": Setting(0, "SpecAugment masks in time, and as many over feature columns", low=0, high=8),
    "augment.stretch": Setting(
        0.0,
        "random stretch of a spectrum (features.sets log_mel alone): of time by up to this share, and of its columns, "
        "as by another vocal tract, by up to half of it; for instance 0.15; 0 is off",
        low=0.0,
        high=0.5,
    ),
    "augment.filter": Setting(
        0.0,
        "random smooth equaliser over feature columns, not over samples: up to so many deviations up or down, for "
        "instance 0.2; 0 is off",
        low=0.0,
        high=3.0,
    ),
    "augment.mixup": Setting(
        0.0, "alpha of mixup, whose shares are drawn from Beta(alpha, alpha); 0 is off", low=0.0, high=10.0
    ),
    "augment.noise_snr_db": Setting(
        0.0, "white noise at this SNR in dB to 15 dB more, for models that hear samples; 0 is off", low=0.0, high=60.0
    ),
    "augment.gain_db": Setting(
        0.0, "gain of up to so many dB up or down, for models that hear samples; 0 is off", low=0.0, high=30.0
    ),
    "augment.time_shift_s": Setting(
        0.0, "shift of up to so many seconds either way, for models that hear samples; 0 is off", low=0.0, high=10.0
    ),
    "augment.crop": Setting(1.0, "least share of a clip that a random crop keeps; 1 is off", low=0.1, high=1.0),
    "augment.copies": Setting(0, "stored changed copies of each training clip, made by augment.recipe", low=0, high=32),
    "augment.recipe": Setting(
        "fourfold",
        "how copies are made: fourfold is noise, then speed, then pre-emphasis",
        choices=("fourfold", "threefold_speed", "prosody", "rooms", "channels", "broad"),
    ),
    "train.epochs": Setting(20, "passes over the training clips", low=1, high=10_000),
    "train.batch_size": Setting(32, "clips in a batch", low=1, high=4096),
    "train.label_smoothing": Setting(0.1, "probability mass moved off the true class", low=0.0, high=0.9),
    "train.class_weights": Setting(True, "weigh classes by inverse frequency in training"),
    "train.patience": Setting(8, "epochs without a better dev UAR before stopping", low=1, high=10_000),
    "train.max_norm": Setting(5.0, "largest gradient norm", low=1e-3, high=1e6),
    "train.precision": Setting(
        "float32",
        "numbers of the forward pass; bf16 (CUDA, CPU) and fp16 (CUDA) are half the memory; MPS has only float32",
        choices=("float32", "bf16", "fp16"),
    ),
    "train.accumulate": Setting(1, "parts a batch is computed in: less memory, the same gradient", low=1, high=1024),
    "train.auto_batch": Setting(False, "lower the size of these parts until a batch fits into memory"),
    "train.checkpoint_every": Setting(
        1,
        "epochs from one checkpoint of ser train to the next; a kill loses the epochs since the last",
        low=1,
        high=1000,
    ),
    "train.sampling": Setting(
        "natural",
        "training clips of an epoch: all (natural), as many of every class with repeats (balanced), or as many of "
        "every class as the rarest has (undersampled)",
        choices=("natural", "balanced", "undersampled"),
    ),
    "optimizer.lr": Setting(2e-3, "peak learning rate of AdamW", low=1e-7, high=1.0),
    "optimizer.weight_decay": Setting(1e-2, "decoupled weight decay of AdamW", low=0.0, high=10.0),
    "optimizer.schedule": Setting(
        "one_cycle",
        "learning rate over the run; warmup_cosine rises over optimizer.warmup, then falls",
        choices=("one_cycle", "cosine", "warmup_cosine", "constant"),
    ),
    "optimizer.warmup": Setting(0.1, "share of the steps in which warmup_cosine rises", low=0.0, high=0.9),
    "optimizer.backbone_lr": Setting(
        0.02, "learning rate of a pretrained encoder's last layer, as a share of optimizer.lr", low=0.0, high=1.0
    ),
    "optimizer.layer_decay": Setting(
        0.9, "learning rate of an encoder layer, as a share of that of the layer above it", low=0.1, high=1.0
    ),
    "distill.alpha": Setting(
        0.0, "weight of the teacher term: alpha T^2 KL + (1 - alpha) CE; 0 is plain training", low=0.0, high=1.0
    ),
    "distill.loss": Setting(
        "kl",
        "the teacher term: kl, of standardised logits, decoupled (dkd), mse of the logits, or its one answer (hard)",
        choices=("kl", "kl_standardised", "dkd", "mse", "hard"),
    ),
    "distill.temperature": Setting(
        2.0, "softens both distributions of the teacher term; mse and hard have none", low=0.1, high=100.0
    ),
    "distill.outputs": Setting(
        "out_of_fold",
        "who labels a training clip: a teacher that has not heard its speaker, the registered teacher that has "
        "(in_sample), or the mean of all fold teachers (ensemble)",
        choices=("out_of_fold", "in_sample", "ensemble"),
    ),
    "distill.hint": Setting(
        "off",
        "beside the teacher term: how a linear map of the student's embedding is to resemble that of the teacher's "
        "frozen encoder (FitNets)",
        choices=("off", "cosine", "mse"),
    ),
    "distill.hint_weight": Setting(1.0, "weight of the hint beside the other terms", low=0.0, high=100.0),
    "distill.unlabelled": Setting(
        "",
        "more speech, a corpus or a folder of recordings, that joins with the teacher term alone: nobody reads its "
        "labels. An epoch hears as many of its clips as of the others, or all; '' is none",
    ),
    "distill.beta": Setting(2.0, "dkd: weight of the classes that are not the true one", low=0.0, high=100.0),
    "seed": Setting(0, "seeds weights, batches, dropout and masks", low=0, high=2**31 - 1),
}


def resolve(overrides: Mapping[str, Any]) -> Settings:
    """Return every setting: `overrides` where given, else the default.

    Raises:
        UserError: a name is unknown or a value invalid.
    """
    for name in overrides:
        if name not in SETTINGS:
            raise UnknownChoice("setting", name, SETTINGS)
    return {
        name: setting.checked(name, overrides[name]) if name in overrides else setting.default
        for name, setting in SETTINGS.items()
    }


def parse_assignments(assignments: Iterable[str]) -> Settings:
    """Read `key=value` words; values are YAML, so `features.sets=[log_mel, zcr]` is a list.

    Raises:
        UserError: a word has no `=`, or its key or value is invalid.
    """
    parsed: Settings = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"--set takes key=value; got {assignment!r}")
        if name not in SETTINGS:
            raise UnknownChoice("setting", name, SETTINGS)
        try:
            parsed[name] = SETTINGS[name].checked(name, yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise UserError(f"{name}: {text!r} is not YAML") from error
    return parsed


def as_json(settings: Mapping[str, Any]) -> Settings:
    """Return `settings` with tuples as lists, as JSON, YAML and MLflow want them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def home() -> Path:
    """Return the folder of caches: `SER_HOME`, else the user's cache folder."""
    return expand_path(os.environ.get("SER_HOME") or platformdirs.user_cache_path("ser")).resolve()


def corpora_folder() -> Path | None:
    """Return the folder in which corpora are looked up by name (`SER_CORPORA`), or None."""
    given = os.environ.get("SER_CORPORA")
    return expand_path(given).resolve() if given else None


def runs_folder() -> Path:
    """Return `runs/` of the working directory, where study journals lie."""
    return Path.cwd() / "runs"


def slots() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
