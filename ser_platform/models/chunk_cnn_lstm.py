"""A convolutional network on each chunk of a clip, a BiLSTM over the chunks, attention."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ser_platform.models.masking import frame_mask, masked_relu, masked_softmax, weighted_mean
from ser_platform.models.model_output import NeuralModel
from ser_platform.models.normalisation import make_normalisation
from ser_platform.models.recurrent import run_recurrent_layer

POOLS = (2, 4, 4)


class PooledBlock(nn.Module):
    """3 x 3 convolution, normalisation, ReLU, max pooling over time and frequency, dropout."""

    def __init__(self, n_inputs: int, n_outputs: int, pool: int, dropout: float, norm: str) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(n_inputs, n_outputs, 3, padding=1)
        self.normalisation = make_normalisation(norm, n_outputs, 2)
        # Rounds up: frames and bands that do not fill a window are pooled too.
        self.pool = nn.MaxPool2d(pool, ceil_mode=True)
        self.factor = pool
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, channels, n_frames, n_bands)` and lengths; output frames beyond a chunk's end are zero."""
        outputs = masked_relu(self.normalisation(self.convolution(images)), lengths)
        return self.dropout(self.pool(outputs)), -(-lengths // self.factor)


class ChunkCnnLstm(NeuralModel):
    """Time-distributed CNN, BiLSTM over chunks, linear attention, classifier.

    Source: Data-Science-kosta/Speech-Emotion-Classification-with-PyTorch, "stacked CNN with attention LSTM": chunks of
    128 frames every 64, of 128 mel bands (`chunks128`); 16, 32 and 64 channels pooled by 2, 4 and 4; 64 LSTM units in
    each direction. Two differences: a last chunk that the clip only partly fills is used too, and the attention's
    scores have no bias, because softmax cancels it.
    """

    def __init__(
        self,
        n_features: int,
        n_emotions: int,
        *,
        width: int,
        hidden_size: int,
        layers: int,
        dropout: float,
        chunk: int,
        norm: str,
    ) -> None:
        super().__init__()
        self.chunk, self.hop = chunk, max(1, chunk // 2)
        widths = (1, width, 2 * width, 4 * width)
        blocks = [PooledBlock(n, m, pool, dropout, norm) for (n, m), pool in zip(pairwise(widths), POOLS, strict=True)]
        self.blocks = nn.ModuleList(blocks).to(memory_format=torch.channels_last)
        n_frames, n_bands = chunk, n_features
        for pool in POOLS:
            n_frames, n_bands = -(-n_frames // pool), -(-n_bands // pool)
        self.lstm = nn.LSTM(widths[-1] * n_frames * n_bands, hidden_size, layers, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(2 * hidden_size, 1, bias=False)
        self.classifier = nn.Linear(2 * hidden_size, n_emotions)

    def pool(self, features: Tensor, lengths: Tensor) -> Tensor:
        embedded, n_chunks = self._embed_chunks(features, lengths)
        outputs = self.dropout(run_recurrent_layer(self.lstm, embedded, n_chunks))
        return weighted_mean(outputs, masked_softmax(self.score(outputs).squeeze(2), n_chunks))

    def _embed_chunks(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return `(batch, n_chunks, n_embedding)`, zero beyond a clip's chunks, and the number of chunks `(batch,)`."""
        n_chunks = 1 + -(-(lengths - self.chunk).clamp_min(0) // self.hop)
        most = int(n_chunks.max())
        n_frames = (most - 1) * self.hop + self.chunk
        padded = F.pad(features[:, :n_frames], (0, 0, 0, max(0, n_frames - features.shape[1])))
        chunks = padded.unfold(1, self.chunk, self.hop).transpose(2, 3)  # (batch, chunks, frames, features)
        own = frame_mask(n_chunks, most)  # no convolution of chunks that are all padding
        begins = torch.arange(most, device=lengths.device) * self.hop
        inside = (lengths[:, None] - begins).clamp(max=self.chunk)[own]
        images = chunks[own][:, None].contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            images, inside = block(images, inside)
        found = images.flatten(1)
        embedded = found.new_zeros(len(features), most, found.shape[1])
        embedded[own] = found
        return embedded, n_chunks
