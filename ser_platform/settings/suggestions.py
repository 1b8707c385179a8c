"""Which setting an unknown name means: other words of the field for a setting, its field alone, or a misspelling."""

import difflib
from collections.abc import Collection, Mapping

# Other words for a setting, in lower case with underscores, without a group.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "amp": ("train.precision",),
    "arch": ("model.name",),
    "architecture": ("model.name",),
    "augmentation": ("augment.recipe",),
    "backbone_name": ("model.backbone",),
    "batch": ("train.batch_size",),
    "bs": ("train.batch_size",),
    "batchsize": ("train.batch_size",),
    "class_weight": ("train.class_weights",),
    "clip_norm": ("train.max_norm",),
    "drop": ("model.dropout",),
    "dropout_rate": ("model.dropout",),
    "duration": ("data.max_seconds",),
    "early_stopping": ("train.patience",),
    "encoder": ("model.backbone",),
    "eta": ("optimizer.lr",),
    "features": ("features.sets",),
    "feature_set": ("features.sets",),
    "grad_clip": ("train.max_norm",),
    "gradient_clip": ("train.max_norm",),
    "hidden": ("model.hidden_size",),
    "hidden_dim": ("model.hidden_size",),
    "hidden_units": ("model.hidden_size",),
    "kd_weight": ("distill.alpha",),
    "l2": ("optimizer.weight_decay",),
    "labelset": ("data.labels",),
    "learning_rate": ("optimizer.lr",),
    "lr_scheduler": ("optimizer.schedule",),
    "max_duration": ("data.max_seconds",),
    "max_epochs": ("train.epochs",),
    "max_length": ("data.max_seconds",),
    "mels": ("features.sets",),
    "mfcc": ("features.sets", "features.n_mfcc"),
    "mfccs": ("features.sets", "features.n_mfcc"),
    "min_duration": ("data.min_seconds",),
    "model": ("model.name",),
    "n_epochs": ("train.epochs",),
    "n_layers": ("model.layers",),
    "n_mels": ("features.sets",),
    "noise": ("augment.noise_snr_db",),
    "norm_type": ("model.norm",),
    "normalisation": ("features.normalise",),
    "normalization": ("features.normalise",),
    "normalize": ("features.normalise",),
    "num_epochs": ("train.epochs",),
    "num_layers": ("model.layers",),
    "p_dropout": ("model.dropout",),
    "random_state": ("seed",),
    "scheduler": ("optimizer.schedule",),
    "seconds": ("data.max_seconds",),
    "smoothing": ("train.label_smoothing",),
    "specaugment": ("augment.masks",),
    "t": ("distill.temperature",),
    "tau": ("distill.temperature",),
    "temp": ("distill.temperature",),
    "trim": ("data.trim_db",),
    "units": ("model.hidden_size",),
    "warmup_ratio": ("optimizer.warmup",),
    "wd": ("optimizer.weight_decay",),
}
CLOSE = 0.75  # similarity from which a name counts as misspelt, of 1
ALL_SETTINGS = "`ser schema settings` prints all"


def suggest_settings(given: str, known: Collection[str]) -> list[str]:
    """Return the names among `known` that an unknown name can mean, the likeliest first; none where none is near."""
    name = given.strip().lower().replace("-", "_")
    fields: dict[str, list[str]] = {}
    for each in known:
        fields.setdefault(each.rpartition(".")[2], []).append(each)
    if name in known:
        return [name]
    field = name.rpartition(".")[2]
    found = [*ALIASES.get(field, ()), *fields.get(field, ())]
    if not found and (near := difflib.get_close_matches(name, known, 1, CLOSE)):
        found = near
    if not found and (near := difflib.get_close_matches(field, [*fields, *ALIASES], 1, CLOSE)):
        found = [*ALIASES.get(near[0], ()), *fields.get(near[0], ())]
    return [each for each in dict.fromkeys(found) if each in known]


def describe_unknown_setting(given: str, known: Collection[str]) -> str:
    """Return the end of a message about an unknown name: what it can mean, and how to list all settings."""
    near = suggest_settings(given, known)
    return f"did you mean {' or '.join(near)}? {ALL_SETTINGS}" if near else ALL_SETTINGS
