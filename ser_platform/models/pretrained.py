"""A classifier on the hidden states of a pretrained speech encoder, which is frozen, partly tuned or fully tuned.

With `model.tuning frozen` the model is only the classifier, and its input is the stored states of all layers. Otherwise
its input is samples `(batch, n_samples, 1)`.
"""

import math
import warnings
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from ser_platform.encoders import Encoder, SpeechEncoder, find_encoder, find_loud_frames
from ser_platform.errors import MissingExtra, UserError
from ser_platform.models.language_adversary import LanguageAdversary
from ser_platform.models.masking import AdditiveAttention, frame_mask, mean_and_std
from ser_platform.models.model_output import ModelOutput, NeuralModel, list_layers
from ser_platform.settings import Settings

FROZEN, TOP, FULL, LORA = "frozen", "top", "full", "lora"
STATISTICS, ATTENTION = "statistics", "attention"
STACKED, WEIGHTED = "stacked", "weighted"
MLP, RIDGE = "mlp", "ridge"
MIDDLE, ALL = "middle", "all"
LEAST_VARIANCE = 1e-10
MAX_LANGUAGES = 16  # number of the adversary's logits
LORA_SCALE = 2  # alpha / rank
# Names of parameters in peft.
PEFT_BASE, PEFT_DOWN, PEFT_UP = "base_layer.weight", "lora_A.default.weight", "lora_B.default.weight"


def select_states(which: str, n_states: int, tuning: str) -> range:
    """Return the indices of the states that a classifier uses, out of `n_states`.

    `middle` leaves out the input of the first layer, which is close to the acoustics, and the output of the last layer,
    which is specialised for words. A tuned encoder's last state is used, so that all its layers are trained.
    """
    if which == ALL:
        return range(n_states)
    return range(1, n_states - 1 if tuning == FROZEN else n_states)


class Head(nn.Module):
    """Mixes hidden states, pools them over time and classifies the result.

    Args:
        n_states, width: number and width of the hidden states.
        classifier: `ridge`, linear without bias, or `mlp` with a hidden layer of `head_size` units.
        mixing: `stacked` concatenates the states; `weighted` adds them with one learned weight per layer (Peters et
            al., 2018, arXiv:1802.05365; Yang et al., 2021, arXiv:2105.01051).
        pooling: `statistics`, mean and deviation over all frames and over the loud frames, or `attention`, both over
            all frames with attention weights (Okabe, Koshinaka & Shinoda, 2018, arXiv:1803.10963).
    """

    def __init__(
        self,
        n_states: int,
        width: int,
        n_emotions: int,
        *,
        classifier: str,
        mixing: str,
        pooling: str,
        head_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.zeros(n_states)) if mixing == WEIGHTED else None
        n_mixed = width if mixing == WEIGHTED else n_states * width
        self.attention = AdditiveAttention(n_mixed, head_size) if pooling == ATTENTION else None
        n_pooled = (2 if pooling == ATTENTION else 4) * n_mixed
        self.n_embedded = n_pooled if classifier == RIDGE else head_size
        if classifier == RIDGE:
            self.hidden: nn.Module = nn.Identity()
            self.classifier: nn.Module = nn.Linear(n_pooled, n_emotions, bias=False)
        else:
            self.hidden = nn.Sequential(nn.Dropout(dropout), nn.Linear(n_pooled, head_size), nn.ReLU())
            self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(head_size, n_emotions))

    def pool_statistics(self, statistics: Tensor) -> Tensor:
        """Map the four statistics of the states, `(batch, 4, n_states, width)`, to rows `(batch, n_pooled)`."""
        return self._mix_states(statistics).flatten(1)

    def pool_frames(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Map states `(batch, n_frames, n_states, width)` and lengths to rows `(batch, n_pooled)`."""
        assert self.attention is not None, "statistics are pooled before states are mixed"
        mixed = self._mix_states(states)
        return mean_and_std(mixed, lengths, self.attention(mixed, lengths))

    def _mix_states(self, states: Tensor) -> Tensor:
        """Map `(..., n_states, width)` to their weighted sum `(..., width)`, or to `(..., n_states * width)`."""
        return states.flatten(-2) if self.mix is None else self.mix.softmax(dim=0) @ states


class Pretrained(NeuralModel):
    """The classifier of a pretrained encoder, with the encoder itself unless it is frozen.

    `encoder` is None where it is frozen. Its untrained parts stay in evaluation mode.

    Args:
        n_features: columns of the stored states, or 1 for samples.
        load_weights: whether a tuned encoder begins with its pretrained weights. False leaves them random, for
            `load_state_dict`, which then merges adapters into the weights that they adapt.

    Raises:
        UserError: there is no such encoder, or it has fewer layers than `tuned_layers`.
        MissingExtra: `tuning` is lora and `peft` is not installed.
    """

    def __init__(
        self,
        n_features: int,
        n_emotions: int,
        *,
        backbone: str,
        tuning: str,
        tuned_layers: int,
        lora_rank: int,
        states: str,
        classifier: str,
        mixing: str,
        pooling: str,
        head_size: int,
        dropout: float,
        adversary: float,
        checkpointing: bool,
        load_weights: bool = True,
    ) -> None:
        super().__init__()
        found = find_encoder(backbone)
        self.shape = (found.n_states, found.width)
        self.pooling, self._reversal = pooling, adversary
        selected = select_states(states, found.n_states, tuning)
        self._selected_states = slice(selected.start, selected.stop)
        self._hop = round(found.frame_s * found.sample_rate) if math.isfinite(found.frame_s) else None
        self.head = Head(
            len(selected),
            found.width,
            n_emotions,
            classifier=classifier,
            mixing=mixing,
            pooling=pooling,
            head_size=head_size,
            dropout=dropout,
        )
        self.adversary = LanguageAdversary(self.head.n_embedded, MAX_LANGUAGES) if adversary else None
        self.encoder: SpeechEncoder | None = None
        self._tuned: list[nn.Module] = []
        if tuning != FROZEN:
            self.mean: Tensor
            self.std: Tensor
            scale_shape = (4, len(selected), found.width) if pooling == STATISTICS else (len(selected), found.width)
            self.register_buffer("mean", torch.zeros(scale_shape))
            self.register_buffer("std", torch.ones(scale_shape))
            self._tune(found, tuning, tuned_layers, lora_rank, checkpointing, load_weights)

    def compute_output(self, features: Tensor, lengths: Tensor) -> ModelOutput:
        """Map states or samples `(batch, n_frames, n_features)` and lengths to logits, embedding, language logits.

        The adversary's input is the embedding before dropout.
        """
        pooled = self.pool(features, lengths)
        output = self.classify(pooled)
        if self.adversary is None or not self.training:
            return output
        return replace(output, language_logits=self.adversary(pooled, self._reversal))

    def pool(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map states or samples and lengths to the input of `head.classifier`, `(batch, n_embedded)`."""
        pooled: Tensor = self.head.hidden(self._pool_states(features, lengths))
        return pooled

    @property
    def last_layers(self) -> Sequence[nn.Module]:
        return list_layers(self.head.classifier)

    def _pool_states(self, features: Tensor, lengths: Tensor) -> Tensor:
        if self.encoder is not None:
            encoded, counts = self._encode(features[:, :, 0], lengths)
            scaled = (encoded - self.mean) / self.std
        elif self.pooling == STATISTICS:
            scaled, counts = features[:, 0].unflatten(1, (4, *self.shape))[:, :, self._selected_states], lengths
        else:
            scaled, counts = features.unflatten(2, self.shape)[:, :, self._selected_states], lengths
        if self.pooling == STATISTICS:
            return self.head.pool_statistics(scaled)
        return self.head.pool_frames(scaled, counts)

    def _encode(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map samples `(batch, n_samples)` to the features of a frozen encoder, and the frames of each clip.

        Features are statistics `(batch, 4, n_states, width)`, or states `(batch, n_frames, n_states, width)`.
        """
        assert self.encoder is not None
        states, counts = self.encoder(samples, lengths)
        states = states[:, :, self._selected_states].float()
        if self.pooling == ATTENTION:
            return states, counts
        own, loud = frame_mask(counts, states.shape[1]), self._find_loud_frames(samples, lengths, counts)
        return torch.cat([_mean_and_std(states, own), _mean_and_std(states, loud)], dim=1), counts

    def _find_loud_frames(self, samples: Tensor, lengths: Tensor, counts: Tensor) -> Tensor:
        """Return a mask of the loud frames of each clip, `(batch, n_frames)`."""
        loud = torch.zeros(len(samples), int(counts.max()), dtype=torch.bool, device=samples.device)
        for row, (length, count) in enumerate(zip(lengths.tolist(), counts.tolist(), strict=True)):
            loud[row, :count] = True if self._hop is None else find_loud_frames(samples[row, :length], count, self._hop)
        return loud

    @torch.no_grad()
    def fit_scale(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Set `mean` and `std`, which scale the features of a tuned encoder, from training clips.

        The stored features of a frozen encoder are scaled likewise, so a tuned encoder begins with the logits of the
        frozen encoder. A few columns of Whisper's states are a hundred times as large as the others.

        Args:
            batches: samples `(batch, n_samples, 1)` and lengths `(batch,)` of some training clips.
        """
        if self.encoder is None:
            return
        self.eval()
        count, total = 0, torch.zeros(self.mean.shape, dtype=torch.float64)  # on the CPU: MPS has no double precision
        squares = total.clone()
        for samples, lengths in batches:
            encoded, counts = self._encode(samples[:, :, 0], lengths)
            rows = encoded if self.pooling == STATISTICS else encoded[frame_mask(counts, encoded.shape[1])]
            rows = rows.cpu().double()
            count, total, squares = count + len(rows), total + rows.sum(dim=0), squares + rows.square().sum(dim=0)
        mean = total / count
        self.mean.copy_(mean)
        self.std.copy_((squares / count - mean.square()).clamp_min(LEAST_VARIANCE).sqrt())

    def train(self, mode: bool = True) -> "Pretrained":
        """Set the mode of the trained modules; the rest of the encoder stays in evaluation mode."""
        super().train(mode)
        if self.encoder is not None:
            self.encoder.eval()
            for module in self._tuned if mode else ():
                module.train()
        return self

    def parameter_groups(self, settings: Settings) -> list[dict[str, Any]]:
        """Return the groups of the classifier and of every trained encoder layer, from the last layer down.

        The learning rate of the last layer is `optimizer.backbone_lr` times that of the classifier, and falls by
        `optimizer.layer_decay` per layer below (discriminative fine-tuning: Howard & Ruder, 2018, arXiv:1801.06146).
        Biases and normalisations have no weight decay.
        """
        depths: dict[int, list[nn.Parameter]] = {}
        for parameter, depth in self._list_depths():
            depths.setdefault(depth, []).append(parameter)
        lr, share = settings.optimizer.lr, settings.optimizer.backbone_lr
        rates = {depth: lr if depth < 0 else lr * share * settings.optimizer.layer_decay**depth for depth in depths}
        groups = []
        for depth in sorted(depths):
            for decayed in (True, False):
                chosen = [parameter for parameter in depths[depth] if (parameter.ndim > 1) == decayed]
                weight_decay = settings.optimizer.weight_decay if decayed else 0.0
                if chosen:
                    groups.append({"params": chosen, "lr": rates[depth], "weight_decay": weight_decay})
        return groups

    def _list_depths(self) -> list[tuple[nn.Parameter, int]]:
        """Return every trained parameter with its distance from the encoder's last layer; -1 is the classifier."""
        below: dict[int, int] = {}
        if self.encoder is not None:
            layers = self.encoder.layers
            for number, layer in enumerate(layers):
                below |= {id(parameter): len(layers) - 1 - number for parameter in layer.parameters()}
            below |= {id(parameter): 0 for module in self.encoder.final_layers for parameter in module.parameters()}
            below = {id(parameter): len(layers) for parameter in self.encoder.parameters()} | below
        return [(parameter, below.get(id(parameter), -1)) for parameter in self.parameters() if parameter.requires_grad]

    def _tune(
        self, found: Encoder, tuning: str, tuned_layers: int, rank: int, checkpointing: bool, load_weights: bool
    ) -> None:
        is_empty = torch.empty(0).is_meta or not load_weights  # tensors of the meta device have no values
        encoder = found.build_untrained() if is_empty else found.load()
        fixed = {id(parameter) for parameter in encoder.parameters() if not parameter.requires_grad}
        encoder.requires_grad_(False)
        if tuning == LORA:
            self._tuned = list(encoder.layers)
            if load_weights:
                _add_adapters(encoder, found.kind, rank)
            else:
                self.register_load_state_dict_pre_hook(_merge_adapters)  # type: ignore[no-untyped-call]  # of torch
        elif tuning == TOP:
            if tuned_layers > len(encoder.layers):
                raise UserError(
                    f"model.tuned_layers {tuned_layers}: {found.name} has {len(encoder.layers)} layers; set "
                    "model.tuning to full for all of them"
                )
            self._tuned = [*encoder.layers[-tuned_layers:], *encoder.final_layers]
        else:
            self._tuned = [encoder]
        for module in self._tuned if tuning != LORA else ():
            for parameter in module.parameters():
                parameter.requires_grad_(id(parameter) not in fixed)
        if checkpointing:
            _enable_recomputation(encoder)
        self.encoder = encoder


def _mean_and_std(states: Tensor, selected: Tensor) -> Tensor:
    """Return mean and deviation `(batch, 2, n_states, width)` of states `(batch, n_frames, n_states, width)`.

    `selected` `(batch, n_frames)` is True on the frames to use. Two passes without matrix products, which mixed
    precision would round: deviations are small compared to some means.
    """
    weights = (selected / selected.sum(dim=1, keepdim=True))[:, :, None, None]
    mean = (weights * states).sum(dim=1)
    variance = (weights * (states - mean[:, None]).square()).sum(dim=1)
    return torch.stack([mean, variance.clamp_min(LEAST_VARIANCE).sqrt()], dim=1)


def _add_adapters(encoder: SpeechEncoder, kind: str, rank: int) -> None:
    """Add trainable low-rank adapters to the linear maps of every layer (Hu et al., 2022, arXiv:2106.09685)."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise MissingExtra("lora", "peft") from error
    names = {module: name for name, module in encoder.body.named_modules() if isinstance(module, nn.Linear)}
    inside = [names[m] for layer in encoder.layers for m in layer.modules() if isinstance(m, nn.Linear)]
    # WavLM's attention reads the weights of its projections directly, without their adapters.
    targets = [name for name in inside if kind != "wavlm" or ".attention." not in name]
    config = LoraConfig(r=rank, lora_alpha=LORA_SCALE * rank, target_modules=targets)
    inject_adapter_in_model(config, encoder.body)


def _merge_adapters(module: nn.Module, state: MutableMapping[str, Any], prefix: str, *rest: Any) -> None:
    """Add the adapters to the weights that they adapt, so that prediction needs neither adapters nor `peft`."""
    for name in [name for name in state if name.endswith(PEFT_BASE)]:
        stem = name.removesuffix(PEFT_BASE)
        up, down = state.pop(stem + PEFT_UP), state.pop(stem + PEFT_DOWN)
        state[stem + "weight"] = state.pop(name) + LORA_SCALE * up @ down
        if stem + "base_layer.bias" in state:
            state[stem + "bias"] = state.pop(stem + "base_layer.bias")


def _enable_recomputation(encoder: SpeechEncoder) -> None:
    """Let layers drop their activations in training and compute them again in the backward pass."""
    body = cast(Any, encoder.body)
    if not body.supports_gradient_checkpointing:
        raise UserError(f"model.checkpointing: {type(body).__name__} cannot recompute activations; set it to false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of a name that all releases of transformers 5 use
        body.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
