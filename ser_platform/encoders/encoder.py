"""`Encoder` describes a pretrained speech encoder, and builds its module with random or with the pretrained weights.

`transformers` takes a second to import, and a process that only reads stored states does not need it: it is imported
where a module is built.
"""

import contextlib
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ser_platform.encoders.generic import GenericStates
from ser_platform.encoders.states import SpeechEncoder
from ser_platform.encoders.waveform import WaveformStates
from ser_platform.encoders.whisper import WhisperStates
from ser_platform.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

PIN_DIGITS = 12  # hex digits of the digest in a pinned name
WHISPER = "whisper"
WAVEFORM_KINDS = ("wav2vec2", "hubert", "wavlm")
# Without random layers and masks a forward pass is deterministic; `features.augmentation` augments.
DETERMINISTIC_CONFIG = {
    "layerdrop": 0.0,
    "encoder_layerdrop": 0.0,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "apply_spec_augment": False,
}
ABBREVIATED = {torch.float16: "F16", torch.bfloat16: "BF16"}


@dataclass(frozen=True, eq=False)
class Encoder:
    """A pretrained speech encoder.

    Attributes:
        name: its name in `model.backbone`, without a digest.
        digest: SHA-256 of its weights and configuration, 64 hex digits.
        config_json: the content of `config.json`.
        preprocessor: the content of `preprocessor_config.json`, {} where there is none.
        folder: the folder with its weights in the format of `transformers`, None where there is none.
        weights: the weights of its body in their published dtype; None where they are in `folder`, or unknown.
    """

    name: str
    digest: str
    config_json: Mapping[str, Any] = field(repr=False)
    preprocessor: Mapping[str, Any] = field(repr=False)
    folder: Path | None = None
    weights: Mapping[str, Tensor] | None = field(default=None, repr=False)

    @property
    def pin(self) -> str:
        """The first digits of the digest, which identify the weights."""
        return self.digest[:PIN_DIGITS]

    @property
    def pinned_name(self) -> str:
        """The name with the pin: it names these weights only."""
        return f"{self.name}@{self.pin}"

    @property
    def label(self) -> str:
        """The pinned name without the path, safe in file names."""
        return f"{Path(self.name).name}@{self.pin}"

    @property
    def has_weights(self) -> bool:
        return self.folder is not None or self.weights is not None

    @property
    def kind(self) -> str:
        """The `model_type` of `transformers`: whisper, wav2vec2, hubert, wavlm, ..."""
        return str(self.config_json["model_type"])

    @cached_property
    def config(self) -> "PreTrainedConfig":
        """The configuration for `transformers`, with a deterministic forward pass.

        Raises:
            UserError: `transformers` has no such kind of model, or not with such sizes.
        """
        from huggingface_hub.errors import StrictDataclassError
        from transformers import AutoConfig

        known = {name: value for name, value in self.config_json.items() if name != "model_type"}
        self._refuse_unsupported_kind()
        try:
            return AutoConfig.for_model(
                self.kind, **{**known, **{k: v for k, v in DETERMINISTIC_CONFIG.items() if k in known}}
            )
        except (StrictDataclassError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.name}: its config.json describes no {self.kind} ({_get_last_line(error)})"
            ) from error

    @property
    def n_states(self) -> int:
        """The number of hidden states of a frame: the input of the first layer and the output of each layer."""
        return self._size("encoder_layers", "num_hidden_layers") + 1

    @property
    def width(self) -> int:
        """The size of a hidden state."""
        return self._size("d_model", "hidden_size")

    def _size(self, *names: str) -> int:
        """Return the first of these sizes in `config.json`, else the default of `transformers`."""
        given = next((self.config_json[name] for name in names if name in self.config_json), None)
        return given if isinstance(given, int) else int(getattr(self.config, names[-1]))

    @property
    def sample_rate(self) -> int:
        """The sampling rate of its input in Hz."""
        return int(self.preprocessor.get("sampling_rate", 16_000))

    @property
    def frame_s(self) -> float:
        """Seconds from one frame to the next; infinite where the frame rate is not fixed."""
        if self.kind == WHISPER:
            return 2 * int(self.preprocessor.get("hop_length", 160)) / self.sample_rate
        strides = self.config_json.get("conv_stride")
        return math.prod(strides) / self.sample_rate if strides else math.inf

    @cached_property
    def n_parameters(self) -> int:
        """The number of parameters of its body; allocates no weights."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in self._build_body().parameters())

    def build_untrained(self) -> SpeechEncoder:
        """Return the module with random weights, in evaluation mode, for a state to be loaded into."""
        return self._wrap_body(self._build_body())

    def load(self) -> SpeechEncoder:
        """Return a new module with the pretrained weights, float32, in evaluation mode.

        Raises:
            UserError: the weights are not available, or not complete.
        """
        if self.weights is not None:
            module = self.build_untrained()
            module.body.load_state_dict({name: value.float() for name, value in self.weights.items()})
            return module
        if self.folder is None:
            raise UserError(
                f"the weights of {self.pinned_name} are not here: put the model into SER_PRETRAINED, or name another "
                "with model.backbone"
            )
        return self._wrap_body(self._read_body(self.folder))

    def body_weights(self) -> dict[str, Tensor]:
        """Return the weights of the body in their published dtype, as a bundle stores them."""
        if self.weights is not None:
            return dict(self.weights)
        dtype = self._find_published_dtype()
        return {name: value.to(dtype) for name, value in self.load().body.state_dict().items()}

    def as_json(self) -> dict[str, Any]:
        """Return the description that a bundle stores; `from_json` reads it."""
        return {
            "name": self.name,
            "digest": self.digest,
            "config": dict(self.config_json),
            "preprocessor": dict(self.preprocessor),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], weights: Mapping[str, Tensor] | None) -> "Encoder":
        """Return the encoder that `as_json` described."""
        return cls(content["name"], content["digest"], content["config"], content["preprocessor"], weights=weights)

    def with_name(self, name: str) -> "Encoder":
        """Return the encoder under another name."""
        return self if name == self.name else replace(self, name=name)

    def _refuse_unsupported_kind(self) -> None:
        from transformers import AutoModelForAudioClassification

        if self.kind not in AutoModelForAudioClassification._model_mapping._model_mapping:
            raise UserError(f"{self.name} is a {self.kind}, which transformers cannot classify audio with")

    def _build_body(self) -> nn.Module:
        from transformers import AutoModelForAudioClassification

        config = self.config
        with _silence_transformers():
            return _get_body(AutoModelForAudioClassification.from_config(config)).eval()

    def _read_body(self, folder: Path) -> nn.Module:
        from transformers import AutoModelForAudioClassification

        config = self.config
        try:
            with _silence_transformers():
                model, loading_info = AutoModelForAudioClassification.from_pretrained(
                    folder,
                    config=config,
                    dtype=torch.float32,
                    use_safetensors=True,
                    local_files_only=True,
                    ignore_mismatched_sizes=True,  # else `transformers` raises without the sizes
                    output_loading_info=True,
                )
        except (SafetensorError, OSError) as error:
            raise UserError(f"the weights in {folder} cannot be read: {_get_last_line(error)}") from error
        body = _get_body(model)
        prefix = next(name for name, module in model.named_modules() if module is body) + "."
        lacking = sorted(name for name in loading_info["missing_keys"] if name.startswith(prefix))
        if lacking:
            raise UserError(f"{folder} has no weights of {', '.join(lacking[:3])} and so on ({len(lacking)} in all)")
        if others := sorted(found for found in loading_info["mismatched_keys"] if found[0].startswith(prefix)):
            name, theirs, ours = others[0]
            raise UserError(
                f"the weights in {folder} do not have the sizes of its config.json: {name} is {_format_sizes(theirs)}, "
                f"not {_format_sizes(ours)} ({len(others)} such in all)"
            )
        return body.eval()

    def _wrap_body(self, body: nn.Module) -> SpeechEncoder:
        if self.kind == WHISPER:
            module: SpeechEncoder = WhisperStates(body, self.preprocessor)
        elif self.kind in WAVEFORM_KINDS:
            module = WaveformStates(body, self.preprocessor)
        else:
            module = GenericStates(body, self._build_extractor())
        return module.eval()

    def _build_extractor(self) -> Any:
        from transformers.models.auto.feature_extraction_auto import feature_extractor_class_from_name

        kind = self.preprocessor.get("feature_extractor_type")
        found = feature_extractor_class_from_name(kind) if kind else None
        if found is None:
            raise UserError(f"{self.name} has no preprocessor_config.json that names a feature extractor")
        return found.from_dict(dict(self.preprocessor))

    def _find_published_dtype(self) -> torch.dtype:
        """Return the half-precision dtype of the weight files if all tensors have it, else float32."""
        assert self.folder is not None
        kinds = set()
        for path in self.folder.glob("*.safetensors"):
            with safe_open(path, "pt") as file:
                kinds |= {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - no mapping
        return next((dtype for dtype, name in ABBREVIATED.items() if kinds == {name}), torch.float32)


def _get_body(model: Any) -> nn.Module:
    """Return a model without its classifier."""
    body: nn.Module = model.encoder if model.config.model_type == WHISPER else model.base_model
    return body


def _get_last_line(error: Exception) -> str:
    """Return the last line of an error of `transformers`: the cause, after many lines of context."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__


def _format_sizes(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))


@contextlib.contextmanager
def _silence_transformers() -> Iterator[None]:
    """Suppress the warnings of `transformers` about the classifier, which is not used."""
    from transformers.utils import logging as transformers_logging

    before, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
        if bar:
            transformers_logging.enable_progress_bar()
