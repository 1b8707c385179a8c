"""Chunks cover a clip, and their logits are averaged with equal weight."""

import pytest
import torch

from ser_platform.features.views.chunks import Chunks, average_by_clip, average_logits


def first_frames(size: int, hop: int, *lengths: int) -> list[list[int]]:
    clip_of, first = Chunks(size, hop).locate_windows(torch.tensor(lengths))
    return [first[clip_of == clip].tolist() for clip in range(len(lengths))]


def test_chunks_begin_a_hop_apart_and_the_last_ends_with_the_clip():
    assert first_frames(4, 2, 10, 11, 4, 3, 5) == [[0, 2, 4, 6], [0, 2, 4, 6, 7], [0], [0], [0, 1]]


@pytest.mark.parametrize(("size", "hop"), [(4, 1), (4, 3), (4, 4), (1, 1), (7, 2)])
def test_every_frame_is_in_a_chunk(size, hop):
    for length in range(1, 30):
        (starts,) = first_frames(size, hop, length)
        assert {frame for start in starts for frame in range(start, start + size)} >= set(range(length))
        assert len(starts) == Chunks(size, hop).count_windows(torch.tensor([length]))[0]


def test_a_chunk_of_a_short_clip_is_padded_with_zeros():
    features = torch.arange(1.0, 13.0).reshape(2, 6, 1)
    features[1, 2:] = 0
    chunks, lengths, clip_of = Chunks(4, 2).cut(features, torch.tensor([6, 2]))
    assert chunks[:, :, 0].tolist() == [[1, 2, 3, 4], [3, 4, 5, 6], [7, 8, 0, 0]]
    assert lengths.tolist() == [4, 4, 2]
    assert clip_of.tolist() == [0, 0, 1]


def test_a_batch_shorter_than_a_chunk_is_padded():
    chunks, lengths, _ = Chunks(4, 4).cut(torch.ones(1, 2, 3), torch.tensor([2]))
    assert chunks.shape == (1, 4, 3)
    assert chunks[0, :, 0].tolist() == [1, 1, 0, 0]
    assert lengths.tolist() == [2]


def test_the_mean_of_a_clip_is_over_its_own_chunks():
    values = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]])
    assert average_by_clip(values, torch.tensor([0, 0, 1]), 2).tolist() == [[2, 1], [5, 5]]


def model(features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return torch.stack([features.sum(dim=(1, 2)), lengths.float()], dim=1)


def test_logits_of_a_clip_are_the_mean_over_its_chunks():
    features, lengths = torch.ones(2, 6, 1), torch.tensor([6, 6])
    features[1] = 2
    assert average_logits(model, features, lengths, None).tolist() == [[6, 6], [12, 6]]
    assert average_logits(model, features, lengths, Chunks(4, 2)).tolist() == [[4, 4], [8, 4]]


def test_gradients_pass_the_mean_over_chunks():
    features = torch.ones(2, 6, 1, requires_grad=True)
    average_logits(model, features, torch.tensor([6, 3]), Chunks(4, 4)).sum().backward()
    assert features.grad is not None
    assert features.grad[0, :, 0].tolist() == [0.5, 0.5, 1, 1, 0.5, 0.5]
