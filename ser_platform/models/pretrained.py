"""A pretrained speech encoder and a classifier on its hidden states: the encoder frozen, tuned in part, or in whole.

Under `model.tuning frozen` the model is the classifier alone: it hears the states of all layers, computed once and
stored. Otherwise it hears samples.
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
from ser_platform.models.model_output import ModelOutput, NeuralModel, layers_in
from ser_platform.settings import Settings

FROZEN, TOP, FULL, LORA = "frozen", "top", "full", "lora"
STATISTICS, ATTENTION = "statistics", "attention"
STACKED, WEIGHTED = "stacked", "weighted"
MLP, RIDGE = "mlp", "ridge"
MIDDLE, ALL = "middle", "all"
LEAST_VARIANCE = 1e-10
MAX_LANGUAGES = 16  # that the adversary has logits for; those of languages that no clip speaks are never right
LORA_SCALE = 2  # alpha over rank, at every rank
# Names of parameters in peft.
PEFT_BASE, PEFT_DOWN, PEFT_UP = "base_layer.weight", "lora_A.default.weight", "lora_B.default.weight"


def select_states(which: str, n_states: int, tuning: str) -> range:
    """Return the states that a classifier takes of all `n_states`.

    What enters the first layer is near the sound, and the last layer is made for words: what lies between carries the
    emotion. Of an encoder that is tuned the last state is taken too, or what is trained of it would not be heard.
    """
    if which == ALL:
        return range(n_states)
    return range(1, n_states - 1 if tuning == FROZEN else n_states)


class Head(nn.Module):
    """Hidden states, pooled over time and classified.

    States stand side by side (`stacked`), each with weights of its own, or are added with one learnt weight a layer
    (`weighted`: ELMo and SUPERB; Peters et al., 2018, arXiv:1802.05365; Yang et al., 2021, arXiv:2105.01051). Pooling
    is mean and standard deviation over all frames of a clip and over its loud ones (`statistics`), or both over all,
    weighted by attention (`attention`: Okabe, Koshinaka & Shinoda, 2018, arXiv:1803.10963). The classifier is linear
    (`ridge`, after how it is fitted) or has a hidden layer (`mlp`).
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
        """Map the four statistics of the states, `(batch, 4, n_states, width)`, to pooled rows `(batch, n_pooled)`."""
        return self._mix_states(statistics).flatten(1)

    def pool_frames(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Map states `(batch, n_frames, n_states, width)` and lengths to pooled rows `(batch, n_pooled)`."""
        assert self.attention is not None, "statistics are pooled before states are mixed"
        mixed = self._mix_states(states)
        return mean_and_std(mixed, lengths, self.attention(mixed, lengths))

    def _mix_states(self, states: Tensor) -> Tensor:
        """Map `(..., n_states, width)` to one vector: `(..., width)` of their weighted sum, or all of them."""
        return states.flatten(-2) if self.mix is None else self.mix.softmax(dim=0) @ states


class Pretrained(NeuralModel):
    """The classifier of a pretrained encoder, and unless that is frozen the encoder itself.

    `encoder` is None where it is frozen. Parts of it that are not trained stay in evaluation mode.

    Args:
        n_features: columns that the model sees: the encoder's stored states, or one, the samples.
        weights: whether a tuned encoder begins with its pretrained weights; False leaves them random, for a state
            that is to follow, which may have adapters: they are merged into the weights they adapt.

    Raises:
        UserError: there is no such encoder, or it has fewer layers than are to be tuned.
        MissingExtra: adapters are to be trained and `peft` is not installed.
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
        taken = select_states(states, found.n_states, tuning)
        self._selected_states = slice(taken.start, taken.stop)
        self._hop = round(found.frame_s * found.sample_rate) if math.isfinite(found.frame_s) else None
        how: dict[str, Any] = {
            "classifier": classifier,
            "mixing": mixing,
            "pooling": pooling,
            "head_size": head_size,
            "dropout": dropout,
        }
        self.head = Head(len(taken), found.width, n_emotions, **how)
        self.adversary = LanguageAdversary(self.head.n_embedded, MAX_LANGUAGES) if adversary else None
        self.encoder: SpeechEncoder | None = None
        self._tuned: list[nn.Module] = []
        if tuning != FROZEN:
            self.mean: Tensor
            self.std: Tensor
            scale_shape = (4, len(taken), found.width) if pooling == STATISTICS else (len(taken), found.width)
            self.register_buffer("mean", torch.zeros(scale_shape))
            self.register_buffer("std", torch.ones(scale_shape))
            self._tune(found, tuning, tuned_layers, lora_rank, checkpointing, load_weights)

    def compute_output(self, features: Tensor, lengths: Tensor) -> ModelOutput:
        """Map states or samples, `(batch, n_frames, n_features)`, and lengths to logits and what else a loss may need.

        The adversary reads the embedding before dropout.
        """
        pooled = self.pool(features, lengths)
        output = self.classify(pooled)
        if self.adversary is None or not self.training:
            return output
        return replace(output, language_logits=self.adversary(pooled, self._reversal))

    def pool(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Map states or samples and lengths to what `head.classifier` takes, `(batch, n_embedded)`."""
        pooled: Tensor = self.head.hidden(self._pool_states(features, lengths))
        return pooled

    @property
    def last_layers(self) -> Sequence[nn.Module]:
        return layers_in(self.head.classifier)

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
        """Return what is stored of a frozen encoder, of samples `(batch, n_samples)`, and how many frames each has.

        That is statistics `(batch, 4, n_states, width)`, or states `(batch, n_frames, n_states, width)`.
        """
        assert self.encoder is not None
        states, counts = self.encoder(samples, lengths)
        states = states[:, :, self._selected_states].float()
        if self.pooling == ATTENTION:
            return states, counts
        own, loud = frame_mask(counts, states.shape[1]), self._find_loud_frames(samples, lengths, counts)
        return torch.cat([_mean_and_std(states, own), _mean_and_std(states, loud)], dim=1), counts

    def _find_loud_frames(self, samples: Tensor, lengths: Tensor, counts: Tensor) -> Tensor:
        """Return which frames of each clip are loud, `(batch, n_frames)`."""
        loud = torch.zeros(len(samples), int(counts.max()), dtype=torch.bool, device=samples.device)
        for row, (length, count) in enumerate(zip(lengths.tolist(), counts.tolist(), strict=True)):
            loud[row, :count] = True if self._hop is None else find_loud_frames(samples[row, :length], count, self._hop)
        return loud

    @torch.no_grad()
    def fit_scale(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Take over mean and deviation of everything that is heard of a tuned encoder, by which it is scaled from now.

        What is stored of a frozen encoder is scaled by all training clips; this does the same with what a tuned one
        gives when it begins, so that at its beginning it is the frozen one. A few numbers of Whisper's states are a
        hundred times as large as the others.

        Args:
            batches: samples `(batch, n_samples, 1)` and lengths `(batch,)` of some training clips.
        """
        if self.encoder is None:
            return
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
        """Set the mode of what is trained; the rest of the encoder stays in evaluation mode."""
        super().train(mode)
        if self.encoder is not None:
            self.encoder.eval()
            for module in self._tuned if mode else ():
                module.train()
        return self

    def parameter_groups(self, settings: Settings) -> list[dict[str, Any]]:
        """Return a group of the classifier and one of every encoder layer that is trained, from the last one down.

        A layer learns `optimizer.layer_decay` times as fast as the one above it, the last one `optimizer.backbone_lr`
        times as fast as the classifier (discriminative fine-tuning: Howard & Ruder, 2018, arXiv:1801.06146). Biases and
        normalisations are not decayed.
        """
        depths: dict[int, list[nn.Parameter]] = {}
        for parameter, depth in self._depths():
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

    def _depths(self) -> list[tuple[nn.Parameter, int]]:
        """Return every trained parameter with how far it lies below the encoder's last layer; -1 is the classifier."""
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
        is_empty = torch.empty(0).is_meta or not load_weights  # on the meta device nothing has values
        encoder = found.build_untrained() if is_empty else found.load()
        fixed = {id(parameter) for parameter in encoder.parameters() if not parameter.requires_grad}
        encoder.requires_grad_(False)
        if tuning == LORA:
            self._tuned = list(encoder.layers)
            if load_weights:
                _adapt(encoder, found.kind, rank)
            else:
                self.register_load_state_dict_pre_hook(_merge_adapters)
        elif tuning == TOP:
            if tuned_layers > len(encoder.layers):
                raise UserError(
                    f"model.tuned_layers {tuned_layers}: {found.name} has {len(encoder.layers)} layers; take "
                    "model.tuning full for all of it"
                )
            self._tuned = [*encoder.layers[-tuned_layers:], *encoder.final_layers]
        else:
            self._tuned = [encoder]
        for module in self._tuned if tuning != LORA else ():
            for parameter in module.parameters():
                parameter.requires_grad_(id(parameter) not in fixed)
        if checkpointing:
            _recompute(encoder)
        self.encoder = encoder


def _mean_and_std(states: Tensor, taken: Tensor) -> Tensor:
    """Return mean and deviation of states `(batch, n_frames, n_states, width)` over the frames that are `taken`.

    `taken` is `(batch, n_frames)`; `(batch, 2, n_states, width)` comes back. In two passes and without products that
    mixed precision would round: deviations are small beside some means.
    """
    weights = (taken / taken.sum(dim=1, keepdim=True))[:, :, None, None]
    mean = (weights * states).sum(dim=1)
    variance = (weights * (states - mean[:, None]).square()).sum(dim=1)
    return torch.stack([mean, variance.clamp_min(LEAST_VARIANCE).sqrt()], dim=1)


def _adapt(encoder: SpeechEncoder, kind: str, rank: int) -> None:
    """Put trainable low-rank adapters on the linear maps of every layer (Hu et al., 2022, arXiv:2106.09685)."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise MissingExtra("lora", "peft") from error
    names = {module: name for name, module in encoder.body.named_modules() if isinstance(module, nn.Linear)}
    inside = [names[m] for layer in encoder.layers for m in layer.modules() if isinstance(m, nn.Linear)]
    # WavLM's attention reads the weights of its projections itself and would pass their adapters by.
    targets = [name for name in inside if kind != "wavlm" or ".attention." not in name]
    config = LoraConfig(r=rank, lora_alpha=LORA_SCALE * rank, target_modules=targets)
    inject_adapter_in_model(config, encoder.body)


def _merge_adapters(module: nn.Module, state: MutableMapping[str, Any], prefix: str, *rest: Any) -> None:
    """Add what adapters learnt to the weights they adapt: prediction needs neither them nor `peft`."""
    for name in [name for name in state if name.endswith(PEFT_BASE)]:
        stem = name.removesuffix(PEFT_BASE)
        up, down = state.pop(stem + PEFT_UP), state.pop(stem + PEFT_DOWN)
        state[stem + "weight"] = state.pop(name) + LORA_SCALE * up @ down
        if stem + "base_layer.bias" in state:
            state[stem + "bias"] = state.pop(stem + "base_layer.bias")


def _recompute(encoder: SpeechEncoder) -> None:
    """Have layers in training forget their activations and compute them again in the backward pass."""
    body = cast(Any, encoder.body)
    if not body.supports_gradient_checkpointing:
        raise UserError(f"model.checkpointing: {type(body).__name__} cannot compute its activations again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of a name that all releases of transformers 5 have
        body.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
