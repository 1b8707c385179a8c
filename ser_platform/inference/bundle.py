"""The bundle: a folder with everything that a model needs to predict; it is what is registered, promoted and served.

Its files are `model.safetensors` (weights), `normaliser.safetensors` (statistics), `bundle.json` (settings and
metadata), `README.md` (model card) and `MANIFEST.sha256` (the digest of each). The bundle of a model on features of a
frozen pretrained encoder also has `encoder.safetensors`, in the published dtype; the weights of a tuned encoder are in
`model.safetensors`. Reading verifies the digests first. No file is a pickle, and no code is run from the folder.
"""

import hashlib
import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from ser_platform.corpora.audio.reader import SAMPLE_RATE
from ser_platform.corpora.lineage import Lineage
from ser_platform.encoders import Encoder, find_encoder, register_encoder
from ser_platform.encoders.encoder import PIN_DIGITS
from ser_platform.errors import BundleError, UserError
from ser_platform.features.families.encoded import is_encoder_family_name
from ser_platform.features.views.normaliser import Normaliser
from ser_platform.features.views.view import FeatureView
from ser_platform.inference.quantisation import dequantise, quantise
from ser_platform.models import CLASSICAL, MODELS, PRETRAINED, build_model
from ser_platform.settings import Settings, resolve

FLOAT_FORMAT, INT8_FORMAT = FORMATS = (1, 2)  # they differ in the dtype of the weights only
DIGESTS_FILE = "MANIFEST.sha256"
BUNDLE_FILES = ("README.md", "bundle.json", "model.safetensors", "normaliser.safetensors")
ENCODER_FILE = "encoder.safetensors"  # only for features of a frozen encoder


@dataclass(frozen=True)
class BundleDescription:
    """The description in `bundle.json`: settings, view, labels, lineage and provenance, without weights."""

    settings: Settings
    view: FeatureView
    labels: tuple[str, ...]
    lineage: Lineage
    provenance: dict[str, str]


@dataclass(frozen=True)
class Bundle:
    """A model with what is needed to predict with it and to evaluate it.

    Attributes:
        role: "teacher" or "student".
        temperature: of calibration; probabilities are softmax(logits / temperature).
        protocol: the stamp of the split, with its leaks in brackets.
        metrics: figures in [0, 1].
        provenance: corpus, fingerprints of manifest, split and test, study, trial, code version.
        card: the model card; "" unless the bundle was read from a folder.
    """

    role: str
    settings: Settings
    view: FeatureView
    labels: tuple[str, ...]
    state: Mapping[str, Tensor]
    normaliser: Normaliser
    temperature: float
    protocol: str
    metrics: dict[str, float]
    lineage: Lineage
    provenance: dict[str, str] = field(default_factory=dict)
    card: str = ""

    @property
    def ledger_key(self) -> str:
        """The model's key in the test ledger, which counts each key once."""
        return f"{self.provenance.get('study', 'unknown')}/{self.provenance.get('trial', '0')}"

    def load_model(self) -> nn.Module:
        """Return the model with its weights, in evaluation mode."""
        model = build_model(self.settings, self.view.n_features, len(self.labels), load_weights=False)
        model.load_state_dict(dict(self.state))
        return model.eval()

    @property
    def frozen_encoders(self) -> tuple[Encoder, ...]:
        """The encoders whose hidden states are features. Raises UserError where one of them is not available."""
        names = dict.fromkeys(name.rpartition(".")[0] for name in self.view.sets if is_encoder_family_name(name))
        return tuple(find_encoder(name) for name in names)

    @property
    def tuned_encoders(self) -> tuple[Encoder, ...]:
        """The encoder that is part of the model, if any; its weights are among those of the model."""
        if self.settings.model.name not in PRETRAINED or self.frozen_encoders:
            return ()
        return (find_encoder(self.settings.model.backbone),)

    def write(self, folder: Path, card: str, *, int8: bool = False) -> str:
        """Write the bundle into `folder` with the model card `card`; return the digest of its MANIFEST.

        `int8` stores the weights in 8 bits, except those of a frozen encoder. Raises UserError where `int8` is set for
        a model without weights, such as a forest.
        """
        if int8 and self.settings.model.name in CLASSICAL:
            raise UserError(f"{self.settings.model.name} has no weights to store in 8 bits")
        folder.mkdir(parents=True, exist_ok=True)
        state = quantise(self.state) if int8 else self.state
        described = self._as_json() | ({"format": INT8_FORMAT} if int8 else {})
        contents = {
            "README.md": card.encode(),
            "bundle.json": json.dumps(described, indent=1).encode(),
            "model.safetensors": save_tensors({name: value.contiguous() for name, value in state.items()}),
            "normaliser.safetensors": save_arrays({"mean": self.normaliser.mean, "std": self.normaliser.std}),
        }
        if self.frozen_encoders:
            weights = {
                f"{encoder.pin}.{name}": value.contiguous()
                for encoder in self.frozen_encoders
                for name, value in encoder.body_weights().items()
            }
            contents[ENCODER_FILE] = save_tensors(weights)
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        lines = [f"{hashlib.sha256(contents[name]).hexdigest()}  {name}\n" for name in sorted(contents)]
        manifest = "".join(lines).encode()
        (folder / DIGESTS_FILE).write_bytes(manifest)
        return hashlib.sha256(manifest).hexdigest()

    def _as_json(self) -> dict[str, Any]:
        encoders = (*self.frozen_encoders, *self.tuned_encoders)
        return {
            "format": FLOAT_FORMAT,
            "role": self.role,
            "architecture": self.settings.model.name,
            "settings": self.settings.dotted(),
            "view": asdict(self.view),
            "labels": self.labels,
            "sample_rate": SAMPLE_RATE,
            "temperature": self.temperature,
            "protocol": self.protocol,
            "metrics": self.metrics,
            "lineage": asdict(self.lineage),
            "provenance": self.provenance,
            **({"encoders": [encoder.as_json() for encoder in encoders]} if encoders else {}),
        }


def read_verified_files(
    folder: Path, digest: str | None = None, names: Container[str] = (*BUNDLE_FILES, ENCODER_FILE)
) -> dict[str, bytes]:
    """Return the contents of the files `names` of a bundle, verified against MANIFEST, and MANIFEST against `digest`.

    Each file is read once: the content that is verified is the content that is returned. Raises BundleError where a
    file is missing or altered; the message names it.
    """
    manifest = _read(folder / DIGESTS_FILE)
    found = hashlib.sha256(manifest).hexdigest()
    if digest is not None and found != digest:
        raise BundleError(
            f"{folder / DIGESTS_FILE} was altered: its digest is {found[:12]}, registered is {digest[:12]}"
        )
    lines = manifest.decode("utf-8", "replace").splitlines()
    listed = {name: checksum for checksum, name in (line.split("  ", 1) for line in lines if "  " in line)}
    if sorted(listed) not in (sorted(BUNDLE_FILES), sorted((*BUNDLE_FILES, ENCODER_FILE))):
        raise BundleError(f"{folder / DIGESTS_FILE} lists {sorted(listed)}; a bundle has {sorted(BUNDLE_FILES)}")
    contents = {name: _read(folder / name) for name in listed if name in names}
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != listed[name]:
            raise BundleError(f"{folder / name} was altered: it does not match {DIGESTS_FILE}")
    return contents


def read_bundle(folder: Path, digest: str | None = None) -> Bundle:
    """Read and verify a bundle. Raises BundleError where it is damaged, altered or of another format."""
    contents = read_verified_files(folder, digest)
    described = _parse_content(folder, contents)
    _register_encoders(described.get("encoders", ()), contents.get(ENCODER_FILE))
    arrays: dict[str, np.ndarray] = load_arrays(contents["normaliser.safetensors"])
    about, weights = _make_description(described), load_tensors(contents["model.safetensors"])
    return Bundle(
        role=described["role"],
        settings=about.settings,
        view=about.view,
        labels=about.labels,
        state=dequantise(weights) if described["format"] == INT8_FORMAT else weights,
        normaliser=Normaliser(arrays["mean"], arrays["std"]),
        temperature=described["temperature"],
        protocol=described["protocol"],
        metrics=described["metrics"],
        lineage=about.lineage,
        provenance=about.provenance,
        card=contents["README.md"].decode(),
    )


def read_description(folder: Path, digest: str | None = None) -> BundleDescription:
    """Read the description of a bundle after verifying it; the files of weights may be missing.

    Its encoders are registered in this process, with their weights where `encoder.safetensors` exists. Raises
    BundleError where the description is damaged, altered or of another format.
    """
    has_encoder = (folder / ENCODER_FILE).exists()
    contents = read_verified_files(folder, digest, ("bundle.json", ENCODER_FILE) if has_encoder else ("bundle.json",))
    described = _parse_content(folder, contents)
    _register_encoders(described.get("encoders", ()), contents.get(ENCODER_FILE))
    return _make_description(described)


def _parse_content(folder: Path, contents: Mapping[str, bytes]) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(contents["bundle.json"])
    if described.get("format") not in FORMATS or described["sample_rate"] != SAMPLE_RATE:
        raise BundleError(
            f"{folder}: bundle format {described.get('format')!r} is unknown; this version reads {FORMATS}"
        )
    if described["architecture"] not in MODELS:
        raise BundleError(
            f"{folder}: unknown architecture {described['architecture']!r}; choose from {', '.join(MODELS)}"
        )
    return described


def _make_description(described: Mapping[str, Any]) -> BundleDescription:
    return BundleDescription(
        settings=resolve(described["settings"]),
        view=FeatureView.from_json(described["view"]),
        labels=tuple(described["labels"]),
        lineage=Lineage(**{name: tuple(values) for name, values in described["lineage"].items()}),
        provenance=described["provenance"],
    )


def _register_encoders(described: Sequence[Mapping[str, Any]], content: bytes | None) -> None:
    """Register the encoders of a bundle in this process, with the weights in `content` if there are any."""
    tensors = load_tensors(content) if content else {}
    for encoder in described:
        prefix = f"{encoder['digest'][:PIN_DIGITS]}."
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        register_encoder(Encoder.from_json(encoder, own or None))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error
