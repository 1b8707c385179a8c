"""A small student after the conformer: attention over the whole clip, convolution over neighbouring frames."""

from torch import Tensor, nn
from torch.nn import functional as F

from ser_platform.errors import UserError
from ser_platform.models.masking import AdditiveAttention, frame_mask, mean_and_std
from ser_platform.models.model_output import NeuralModel
from ser_platform.models.normalisation import make_normalisation
from ser_platform.models.recurrent import stack_frames

HEADS = 4
KERNEL = 15  # steps; 0.6 s of 4 frames of 10 ms
EXPANSION = 2  # of the feed-forward layers


class FeedForward(nn.Sequential):
    """Layer normalisation, two dense layers with SiLU between them."""

    def __init__(self, size: int, dropout: float) -> None:
        wide = EXPANSION * size
        super().__init__(
            nn.LayerNorm(size), nn.Linear(size, wide), nn.SiLU(), nn.Dropout(dropout), nn.Linear(wide, size)
        )


class SelfAttention(nn.Module):
    """Multi-head attention of every step to a clip's own steps (Vaswani et al., 2017, arXiv:1706.03762)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.normalisation = nn.LayerNorm(size)
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size, bias=False)  # a bias would add the same to every score
        self.value = nn.Linear(size, size)
        self.output = nn.Linear(size, size)

    def forward(self, steps: Tensor, own: Tensor) -> Tensor:
        """Map `(batch, n_steps, size)`; `own` `(batch, n_steps)` is True on a clip's own steps."""
        normalised = self.normalisation(steps)
        query, key, value = (
            layer(normalised).unflatten(2, (HEADS, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=own[:, None, None, :])
        mixed: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return mixed


class Convolution(nn.Module):
    """Gated pointwise, depthwise over time, normalisation, SiLU, pointwise; reads nothing beyond a clip's end."""

    def __init__(self, size: int, norm: str) -> None:
        super().__init__()
        self.normalisation = nn.LayerNorm(size)
        self.gated = nn.Linear(size, 2 * size)
        self.depthwise = nn.Conv1d(size, size, KERNEL, padding=KERNEL // 2, groups=size, bias=False)
        self.inner = make_normalisation(norm, size)
        self.output = nn.Linear(size, size)

    def forward(self, steps: Tensor, own: Tensor) -> Tensor:
        """Map `(batch, n_steps, size)`; `own` `(batch, n_steps)` is True on a clip's own steps."""
        gated = F.glu(self.gated(self.normalisation(steps)), dim=2) * own[:, :, None]
        mixed: Tensor = self.output(F.silu(self.inner(self.depthwise(gated.transpose(1, 2)))).transpose(1, 2))
        return mixed


class ConformerBlock(nn.Module):
    """Half a feed-forward layer, attention, convolution, half a feed-forward layer, each added to its input."""

    def __init__(self, size: int, dropout: float, norm: str) -> None:
        super().__init__()
        self.first, self.second = FeedForward(size, dropout), FeedForward(size, dropout)
        self.attention = SelfAttention(size)
        self.convolution = Convolution(size, norm)
        self.normalisation = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, steps: Tensor, own: Tensor) -> Tensor:
        """Map `(batch, n_steps, size)`; `own` `(batch, n_steps)` is True on a clip's own steps."""
        steps = steps + 0.5 * self.dropout(self.first(steps))
        steps = steps + self.dropout(self.attention(steps, own))
        steps = steps + self.dropout(self.convolution(steps, own))
        steps = steps + 0.5 * self.dropout(self.second(steps))
        normalised: Tensor = self.normalisation(steps)
        return normalised


class Conformer(NeuralModel):
    """Stacks of frames, conformer blocks, attentive statistics pooling.

    Blocks as in Gulati et al. (2020, arXiv:2005.08100, section 2), whose smallest model has 10 million parameters. The
    sizes are chosen here for a student under 100,000 parameters on 64 bands: 48 wide, two blocks, 4 heads, kernel 15,
    dense layers widened by 2 instead of 4. There is no positional encoding: the convolutions cover the order of
    neighbouring frames.

    Raises UserError where `hidden_size` is not a multiple of 4.
    """

    def __init__(
        self,
        n_features: int,
        n_emotions: int,
        *,
        hidden_size: int,
        layers: int,
        dropout: float,
        subsample: int,
        norm: str,
    ) -> None:
        if hidden_size % HEADS:
            raise UserError(f"model.hidden_size of conformer must be a multiple of {HEADS}; got {hidden_size}")
        super().__init__()
        self.subsample = subsample
        self.input = nn.Linear(n_features * subsample, hidden_size)
        self.blocks = nn.ModuleList(ConformerBlock(hidden_size, dropout, norm) for _ in range(layers))
        self.attention = AdditiveAttention(hidden_size, hidden_size)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * hidden_size, n_emotions))

    def pool(self, features: Tensor, lengths: Tensor) -> Tensor:
        stacked, n_steps = stack_frames(features, lengths, self.subsample)
        steps, own = self.input(stacked), frame_mask(n_steps, stacked.shape[1])
        for block in self.blocks:
            steps = block(steps, own)
        return mean_and_std(steps, n_steps, self.attention(steps, n_steps))
