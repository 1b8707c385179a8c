"""Properties of single architectures beyond the contract of all models."""

import pytest
import torch
from torch import nn

from ser_platform.errors import UnknownChoice, UserError
from ser_platform.models import build_model
from ser_platform.models.chunk_cnn_lstm import ChunkCnnLstm
from ser_platform.models.normalisation import ChannelNorm, make_normalisation
from ser_platform.models.stacked_bilstm import StackedBiLstm
from ser_platform.settings import resolve


@pytest.mark.parametrize(("n_frames", "chunks"), [(1, 1), (16, 1), (17, 2), (24, 2), (25, 3), (160, 19)])
def test_chunks_of_a_clip_overlap_by_half_and_leave_no_frame_out(n_frames, chunks):
    model = ChunkCnnLstm(8, 3, width=2, hidden_size=4, layers=1, dropout=0.0, chunk=16, norm="layer").eval()
    embedded, counts = model._embed_chunks(torch.randn(1, n_frames, 8), torch.tensor([n_frames]))
    assert embedded.shape[1] == chunks and counts.tolist() == [chunks]
    assert (chunks - 1) * 8 + 16 >= n_frames


def test_a_change_in_a_clips_last_frame_changes_only_its_last_chunk():
    torch.manual_seed(0)
    model = ChunkCnnLstm(8, 3, width=2, hidden_size=4, layers=1, dropout=0.0, chunk=16, norm="layer").eval()
    features = torch.randn(1, 25, 8)
    changed = features.clone()
    changed[0, 24] += 5
    before, after = (model._embed_chunks(f, torch.tensor([25]))[0][0] for f in (features, changed))
    assert [(b - a).abs().max() > 1e-4 for b, a in zip(before, after, strict=True)] == [False, False, True]


def test_a_stacked_bilstm_reads_the_whole_clip_in_both_directions():
    torch.manual_seed(0)
    model = StackedBiLstm(4, 3, hidden_size=6, layers=1, dropout=0.0, subsample=1).eval()
    features = torch.randn(1, 20, 4)
    first, last = features.clone(), features.clone()
    first[0, 0] += 5
    last[0, 19] += 5
    changed_first, changed_last, same = (model.pool(clip, torch.tensor([20]))[0] for clip in (first, last, features))
    assert (changed_first[6:] - same[6:]).abs().max() > 1e-3  # backward ends at the first frame
    assert (changed_last[:6] - same[:6]).abs().max() > 1e-3  # forward ends at the last


def test_the_published_vector_model_runs_along_the_features():
    model = build_model(resolve({"model.name": "cnn_bilstm_vector"}), 184, 7)
    seen = []
    model.lstm.register_forward_hook(lambda _, given, came: seen.append(tuple(given[0].shape)))
    model.eval()(torch.randn(2, 1, 184), torch.tensor([1, 1]))
    assert seen == [(2, 46, 128)]


def test_several_frames_are_averaged_to_one_vector():
    for name in ("mlp", "cnn_bilstm_vector"):
        model = build_model(resolve({"model.name": name}), 12, 3).eval()
        frames = torch.randn(1, 6, 12)
        alone, together = model(frames.mean(dim=1, keepdim=True), torch.tensor([1])), model(frames, torch.tensor([6]))
        torch.testing.assert_close(alone, together)


def test_a_perceptron_halves_its_layers():
    layers = build_model(resolve({"model.name": "mlp", "model.layers": 3}), 184, 7).layers
    assert [layer.out_features for layer in layers if isinstance(layer, nn.Linear)] == [128, 64, 32, 7]


def test_invalid_sizes_are_refused_with_the_valid_choices():
    with pytest.raises(UserError, match="multiple of 4; got 30"):
        build_model(resolve({"model.name": "conformer", "model.hidden_size": 30}), 64, 7)
    with pytest.raises(UserError, match="needs at least 4 of them; got 3"):
        build_model(resolve({"model.name": "cnn_bilstm_vector"}), 3, 7)
    with pytest.raises(UnknownChoice, match=r"'group'.*batch, layer"):
        make_normalisation("group", 8)


def test_layer_normalisation_scales_each_position_on_its_own():
    images = torch.randn(2, 5, 4, 3)
    expected = (images - images.mean(1, keepdim=True)) / (images.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(ChannelNorm(5)(images), expected)


@pytest.mark.parametrize("name", ["cnn_bilstm", "lite_cnn", "chunk_cnn_lstm", "conformer", "separable_cnn", "mlp"])
def test_with_layer_normalisation_half_batches_give_the_whole_batchs_gradient(name):
    torch.manual_seed(0)
    sizes = {"model.hidden_size": 8, "model.width": 4, "model.layers": 1, "model.chunk": 16, "model.dropout": 0.0}
    n_features, n_frames = (1, 1600) if name == "lite_cnn" else (16, 40)
    model = build_model(resolve({"model.name": name, "model.norm": "layer", **sizes}), n_features, 3)
    features, lengths, targets = (
        torch.randn(4, n_frames, n_features),
        torch.tensor([n_frames] * 4),
        torch.tensor([0, 1, 2, 0]),
    )

    def gradient(rows: slice) -> torch.Tensor:
        loss = nn.functional.cross_entropy(model(features[rows], lengths[rows]), targets[rows])
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])

    halves = (gradient(slice(0, 2)) + gradient(slice(2, 4))) / 2
    torch.testing.assert_close(halves, gradient(slice(0, 4)), atol=1e-6, rtol=1e-4)
