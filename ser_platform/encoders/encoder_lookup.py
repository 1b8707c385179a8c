"""Finds encoders: registered in this process, under `SER_PRETRAINED`, at a path, saved from a bundle, or on the hub.

No downloaded code is run: weights are read from safetensors only.
"""

import contextlib
import json
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import requests
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from ser_platform.encoders.encoder import PIN_DIGITS, WHISPER, Encoder
from ser_platform.errors import UserError
from ser_platform.files import digest_of, expand_path, read_json, replacing, sha256_of, write_json
from ser_platform.settings import home

PINNED = re.compile(rf"(?P<name>.+)@(?P<pin>[0-9a-f]{{{PIN_DIGITS},64}})")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
CONFIG, PREPROCESSOR, SAVED_ENCODER_FILE, WEIGHTS = (
    "config.json",
    "preprocessor_config.json",
    "encoder.json",
    "encoder.safetensors",
)
HUB_FILE_PATTERNS = (CONFIG, PREPROCESSOR, "model*.safetensors", "*.safetensors.index.json")
DEFAULT_HUB_ENCODER = "openai/whisper-base"
HUB_TIMEOUT_S = 3.0

_registered_by_pin: dict[str, Encoder] = {}  # by pin


def find_encoder(spelled: str) -> Encoder:
    """Return the encoder of a name, a path or a hub name; with `NAME@DIGEST`, only if its weights have the digest.

    Raises:
        UserError: it is not found, its weights are no safetensors, or their digest is another.
    """
    given = PINNED.fullmatch(spelled)
    if given is None:
        return _register(_find_unpinned(spelled))
    name, pin = given["name"], given["pin"]
    known = _registered_by_pin.get(pin[:PIN_DIGITS])
    if known is not None and not known.digest.startswith(pin):
        known = None
    if known is not None and known.has_weights:
        return known.with_name(name)
    # The hub comes last: it may not be reachable.
    found = _find_in_folders(name)
    if found is None or not found.digest.startswith(pin):
        saved = _read_saved(pin) or known
        found = saved.with_name(name) if saved is not None else found or _find_unpinned(name)
    if not found.digest.startswith(pin):
        raise UserError(
            f"the weights of {name} have changed: they are {found.pin}, requested are {pin[:PIN_DIGITS]}; use the "
            f"present weights with model.backbone={found.pinned_name}"
        )
    return _register(found)


def resolve_pinned_name(spelled: str) -> str:
    """Return the name of an encoder with the digest of its weights.

    Raises:
        UserError: there is no such encoder.
    """
    return find_encoder(spelled).pinned_name


def register_encoder(encoder: Encoder) -> None:
    """Make `find_encoder` in this process return this encoder, which a bundle contained, for its digest."""
    known = _registered_by_pin.get(encoder.pin)
    if known is None or not known.has_weights:
        _registered_by_pin[encoder.pin] = encoder


def _register(encoder: Encoder) -> Encoder:
    register_encoder(encoder)
    return encoder


def list_local_encoders() -> list[str]:
    """Return the names of the encoders under `SER_PRETRAINED`, sorted."""
    folder = _pretrained_folder()
    if folder is None or not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if (path / CONFIG).is_file() and _list_weight_files(path))


def find_default_encoder(warn: Callable[[str], None]) -> str | None:
    """Return the name of the default encoder of a teacher, None where none is available.

    It is a Whisper under `SER_PRETRAINED`, preferably of size base, else Whisper base of the hub if it is cached or the
    hub answers within `HUB_TIMEOUT_S`. `warn` is called for each folder with an encoder that cannot be used.
    """
    here = []
    for name in list_local_encoders():
        try:
            here += [name] if find_encoder(name).kind == WHISPER else []
        except UserError as error:
            warn(f"left out: {error}")
    if here:
        return min(here, key=lambda name: ("base" not in name, name))
    return DEFAULT_HUB_ENCODER if _is_on_hub(DEFAULT_HUB_ENCODER) else None


def _is_on_hub(name: str) -> bool:
    """Return whether the hub, or its cache on this machine, has a model."""
    from huggingface_hub import constants, try_to_load_from_cache  # late: see `encoder`

    if isinstance(try_to_load_from_cache(name, "model.safetensors"), str):
        return True
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        # huggingface_hub would retry for half a minute.
        answer = requests.head(f"{constants.ENDPOINT}/{name}/resolve/main/{CONFIG}", timeout=HUB_TIMEOUT_S)
    except requests.RequestException:
        return False
    return answer.ok


def save_encoder(encoder: Encoder) -> None:
    """Write an encoder of a bundle under `SER_HOME`, where the processes that this one starts find it."""
    folder = _saved_folder(encoder.pin)
    if encoder.weights is None or (folder / SAVED_ENCODER_FILE).exists():
        return
    content = save_tensors({name: value.contiguous() for name, value in encoder.weights.items()})
    with replacing(folder / WEIGHTS) as temporary:
        temporary.write_bytes(content)
    write_json(folder / SAVED_ENCODER_FILE, encoder.as_json() | {"sha256": sha256_of(folder / WEIGHTS)})


def _saved_folder(pin: str) -> Path:
    return home() / "encoders" / pin[:PIN_DIGITS]


def _read_saved(pin: str) -> Encoder | None:
    folder = _saved_folder(pin)
    if not (folder / SAVED_ENCODER_FILE).exists():
        return None
    content = read_json(folder / SAVED_ENCODER_FILE)
    if not content["digest"].startswith(pin) or sha256_of(folder / WEIGHTS) != content["sha256"]:
        return None  # an altered file of a cache counts as missing
    return Encoder.from_json(content, load_tensors((folder / WEIGHTS).read_bytes()))


def _pretrained_folder() -> Path | None:
    given = os.environ.get("SER_PRETRAINED")
    return expand_path(given).resolve() if given else None


def _find_unpinned(name: str) -> Encoder:
    found = _find_in_folders(name)
    if found is not None:
        return found
    if HUB_NAME.fullmatch(name):
        return _read_encoder(name, _fetch_from_hub(name))
    raise UserError(
        f"no encoder {name!r}: {_describe_local_encoders()}, a path, or a name of the hub like openai/whisper-base"
    )


def _find_in_folders(name: str) -> Encoder | None:
    """Return the encoder called `name` under `SER_PRETRAINED`, or at the path `name`."""
    root = _pretrained_folder()
    if root is not None and (root / name / CONFIG).is_file():
        return _read_encoder(name, root / name)
    path = expand_path(name)
    # Absolute: other processes run in other folders.
    return _read_encoder(str(path.resolve()), path.resolve()) if path.is_dir() else None


def _describe_local_encoders() -> str:
    here = list_local_encoders()
    if here:
        return f"choose from {', '.join(here)} under SER_PRETRAINED"
    return "SER_PRETRAINED has none" if _pretrained_folder() else "SER_PRETRAINED is not set; set it"


def _fetch_from_hub(name: str) -> Path:
    """Return the folder of a model of the hub; downloads its safetensors where they are not cached."""
    from huggingface_hub import snapshot_download  # late: see `encoder`
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    fetch = partial(snapshot_download, name, allow_patterns=list(HUB_FILE_PATTERNS))
    errors = (HfHubHTTPError, HFValidationError, OSError)
    with contextlib.suppress(*errors):
        cached = Path(fetch(local_files_only=True))
        if (cached / CONFIG).is_file() and _list_weight_files(cached):
            return cached
    try:
        return Path(fetch())
    except errors as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"no encoder {name!r}: neither a folder nor in the Hugging Face cache, and the hub refuses it "
            f"({reason}); {_describe_local_encoders()}"
        ) from error


def _list_weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("model*.safetensors"))


def _read_encoder(name: str, folder: Path) -> Encoder:
    files = _list_weight_files(folder)
    if not files:
        others = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".h5", ".msgpack"))
        has = f" but {', '.join(others)}, which could run code and is never read" if others else ""
        raise UserError(f"{folder} has no model.safetensors{has}")
    config, preprocessor = _read_json_object(folder / CONFIG), {}
    if (folder / PREPROCESSOR).is_file():
        preprocessor = _read_json_object(folder / PREPROCESSOR)
    if "model_type" not in config:
        raise UserError(f"{folder / CONFIG} has no model_type: it is no model of transformers")
    parts = {"weights": [_digest_of_file(path) for path in files], "config": config, "preprocessor": preprocessor}
    return Encoder(name, digest_of(parts), config, preprocessor, folder)


def _read_json_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} has no JSON object")
    return content


def _digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file; stored from an earlier call while size and modification time are equal."""
    notes, key, stat = home() / "encoders" / "digests.json", str(path.resolve()), path.stat()
    known = read_json(notes) if notes.exists() else {}
    entry = [stat.st_size, stat.st_mtime_ns]
    if known.get(key, [])[:2] != entry:
        known[key] = [*entry, sha256_of(path)]
        write_json(notes, known)
    return str(known[key][2])
