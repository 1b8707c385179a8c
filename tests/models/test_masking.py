import torch

from ser_platform.models.masking import AdditiveAttention, frame_mask, masked_relu, mean_and_std, mean_over_frames


def test_a_mask_is_true_on_a_clips_own_frames():
    assert frame_mask(torch.tensor([1, 3]), 3).tolist() == [[True, False, False], [True, True, True]]


def test_pooling_reads_only_a_clips_own_frames():
    frames = torch.tensor([[[1.0], [3.0], [99.0]]])
    pooled = mean_and_std(frames, torch.tensor([2]))
    torch.testing.assert_close(pooled, torch.tensor([[2.0, 1.0]]))


def test_weighted_pooling_is_the_weighted_mean_and_deviation():
    frames, weights = torch.tensor([[[0.0], [4.0]]]), torch.tensor([[0.25, 0.75]])
    pooled = mean_and_std(frames, torch.tensor([2]), weights)
    torch.testing.assert_close(pooled, torch.tensor([[3.0, 3.0**0.5]]))


def test_attention_weights_sum_to_one_and_are_zero_on_padding():
    weights = AdditiveAttention(4, 3)(torch.randn(2, 5, 4), torch.tensor([2, 5]))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))
    assert weights[0, 2:].tolist() == [0, 0, 0]


def test_masked_relu_is_zero_beyond_a_clips_end_and_passes_no_gradient_there():
    made = torch.tensor([[[-1.0, 2.0, 3.0]], [[4.0, -5.0, 6.0]]], requires_grad=True)
    outputs = masked_relu(made * 1, torch.tensor([2, 3]))
    outputs.sum().backward()
    assert outputs.tolist() == [[[0, 2, 0]], [[4, 0, 6]]]
    assert made.grad.tolist() == [[[0, 1, 0]], [[1, 0, 1]]]


def test_the_mean_is_over_a_clips_own_frames():
    assert mean_over_frames(torch.tensor([[[1.0], [3.0], [99.0]]]), torch.tensor([2])).tolist() == [[2]]
