"""Where encoders are: remembered by this process, under `SER_PRETRAINED`, at a path, kept from a bundle, or on the hub.

Nothing that a folder or the hub holds is run: weights are read from safetensors, and no code of a model's repository.
"""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from ser_platform.encoders.encoder import PIN, WHISPER, Encoder
from ser_platform.errors import UserError
from ser_platform.files import digest_of, expanded, read_json, replacing, sha256_of, write_json
from ser_platform.settings import home

PINNED = re.compile(rf"(?P<name>.+)@(?P<pin>[0-9a-f]{{{PIN},64}})")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
CONFIG, PREPROCESSOR, KEPT, WEIGHTS = "config.json", "preprocessor_config.json", "encoder.json", "encoder.safetensors"
WANTED = (CONFIG, PREPROCESSOR, "model*.safetensors", "*.safetensors.index.json")
OF_HUB = "openai/whisper-base"
HUB_PATIENCE_S = 3.0

_remembered: dict[str, Encoder] = {}  # by pin


def find_encoder(spelled: str) -> Encoder:
    """Return the encoder of a name, a path or a hub name; `NAME@DIGEST` is of these weights or of none.

    Raises:
        UserError: it is not here, its weights are no safetensors, or they are not the ones that were named.
    """
    given = PINNED.fullmatch(spelled)
    if given is None:
        return _noted(_looked_up(spelled))
    name, pin = given["name"], given["pin"]
    known = _remembered.get(pin[:PIN])
    if known is not None and not known.digest.startswith(pin):
        known = None
    if known is not None and known.has_weights:
        return known.renamed(name)
    # Not from the hub what a model brought with it: the hub may not be there.
    found = _in_folders(name)
    if found is None or not found.digest.startswith(pin):
        brought = _read_kept(pin) or known
        found = brought.renamed(name) if brought is not None else found or _looked_up(name)
    if not found.digest.startswith(pin):
        raise UserError(
            f"the weights of {name} have changed: they are {found.pin}, asked for is {pin[:PIN]}; name them as they "
            f"are with model.backbone={found.pinned}"
        )
    return _noted(found)


def pinned_name(spelled: str) -> str:
    """Return the spelling of an encoder that names its very weights.

    Raises:
        UserError: there is no such encoder.
    """
    return find_encoder(spelled).pinned


def remember(encoder: Encoder) -> None:
    """Have `find_encoder` give this encoder, which came with a model, to whoever asks this process for its digest."""
    known = _remembered.get(encoder.pin)
    if known is None or not known.has_weights:
        _remembered[encoder.pin] = encoder


def _noted(encoder: Encoder) -> Encoder:
    remember(encoder)
    return encoder


def encoders_here() -> list[str]:
    """Return the names of the encoders under `SER_PRETRAINED`, sorted."""
    folder = _pretrained_folder()
    if folder is None or not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if (path / CONFIG).is_file() and _weight_files(path))


def encoder_at_hand(warn: Callable[[str], None]) -> str | None:
    """Return the encoder that a teacher is made of where none is named, None where there is none.

    Of folders under `SER_PRETRAINED` that hold no encoder that can be used, `warn` is told; the others count.

    That is a Whisper under `SER_PRETRAINED`, one of size base before others, or Whisper base of the hub, as cached or
    where the hub answers within seconds.
    """
    here = []
    for name in encoders_here():
        try:
            here += [name] if find_encoder(name).kind == WHISPER else []
        except UserError as error:
            warn(f"left out: {error}")
    if here:
        return min(here, key=lambda name: ("base" not in name, name))
    return OF_HUB if _hub_has(OF_HUB) else None


def _hub_has(name: str) -> bool:
    """Tell whether the hub, or its cache on this machine, has a model."""
    from huggingface_hub import constants, try_to_load_from_cache  # late: see `encoder`

    if isinstance(try_to_load_from_cache(name, "model.safetensors"), str):
        return True
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        # Not through huggingface_hub, which tries again for half a minute.
        answer = requests.head(f"{constants.ENDPOINT}/{name}/resolve/main/{CONFIG}", timeout=HUB_PATIENCE_S)
    except requests.RequestException:
        return False
    return answer.ok


def keep(encoder: Encoder) -> None:
    """Write an encoder that only this process remembers under `SER_HOME`, where the processes it starts find it."""
    folder = _kept_folder(encoder.pin)
    if encoder.weights is None or (folder / KEPT).exists():
        return
    content = save_tensors({name: value.contiguous() for name, value in encoder.weights.items()})
    with replacing(folder / WEIGHTS) as temporary:
        temporary.write_bytes(content)
    write_json(folder / KEPT, encoder.as_json() | {"sha256": sha256_of(folder / WEIGHTS)})


def _kept_folder(pin: str) -> Path:
    return home() / "encoders" / pin[:PIN]


def _read_kept(pin: str) -> Encoder | None:
    folder = _kept_folder(pin)
    if not (folder / KEPT).exists():
        return None
    content = read_json(folder / KEPT)
    if not content["digest"].startswith(pin) or sha256_of(folder / WEIGHTS) != content["sha256"]:
        return None  # a cache: what was altered is looked for elsewhere
    return Encoder.from_json(content, load_tensors((folder / WEIGHTS).read_bytes()))


def _pretrained_folder() -> Path | None:
    given = os.environ.get("SER_PRETRAINED")
    return expanded(given).resolve() if given else None


def _looked_up(name: str) -> Encoder:
    found = _in_folders(name)
    if found is not None:
        return found
    if HUB_NAME.fullmatch(name):
        return _described(name, _from_hub(name))
    raise UserError(f"no encoder {name!r}: {_told_of_here()}, a path, or a name of the hub like openai/whisper-base")


def _in_folders(name: str) -> Encoder | None:
    """Return the encoder called `name` under `SER_PRETRAINED`, or at the path `name`."""
    root = _pretrained_folder()
    if root is not None and (root / name / CONFIG).is_file():
        return _described(name, root / name)
    path = expanded(name)
    # Absolute: other processes run in other folders.
    return _described(str(path.resolve()), path.resolve()) if path.is_dir() else None


def _told_of_here() -> str:
    here = encoders_here()
    if here:
        return f"choose from {', '.join(here)} under SER_PRETRAINED"
    return "SER_PRETRAINED holds none" if _pretrained_folder() else "SER_PRETRAINED is not set; give it"


def _from_hub(name: str) -> Path:
    """Return the folder of a model of the hub: as cached, else after downloading its safetensors."""
    from huggingface_hub import snapshot_download  # late: see `encoder`
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    for local in (True, False):
        try:
            folder = Path(snapshot_download(name, allow_patterns=list(WANTED), local_files_only=local))
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            if not local:
                said = str(error).strip().splitlines()[0]
                raise UserError(
                    f"no encoder {name!r}: neither a folder nor in the Hugging Face cache, and the hub does not give "
                    f"it ({said}); {_told_of_here()}"
                ) from error
            continue
        if not local or ((folder / CONFIG).is_file() and _weight_files(folder)):
            return folder
    raise AssertionError("the second look returns or raises")


def _weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("model*.safetensors"))


def _described(name: str, folder: Path) -> Encoder:
    files = _weight_files(folder)
    if not files:
        others = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".h5", ".msgpack"))
        has = f" but {', '.join(others)}, which could run code and is never read" if others else ""
        raise UserError(f"{folder} has no model.safetensors{has}")
    config, preprocessor = _json_in(folder / CONFIG), {}
    if (folder / PREPROCESSOR).is_file():
        preprocessor = _json_in(folder / PREPROCESSOR)
    if "model_type" not in config:
        raise UserError(f"{folder / CONFIG} names no model_type: it is no model of transformers")
    parts = {"weights": [_digest_of_file(path) for path in files], "config": config, "preprocessor": preprocessor}
    try:
        return Encoder(name, digest_of(parts), config, preprocessor, folder)
    except SafetensorError as error:
        raise UserError(f"{folder}: {error}") from error


def _json_in(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object")
    return content


def _digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file, known from last time where size and modification time are the same."""
    notes, key, stat = home() / "encoders" / "digests.json", str(path.resolve()), path.stat()
    known = read_json(notes) if notes.exists() else {}
    entry = [stat.st_size, stat.st_mtime_ns]
    if known.get(key, [])[:2] != entry:
        known[key] = [*entry, sha256_of(path)]
        write_json(notes, known)
    return str(known[key][2])
