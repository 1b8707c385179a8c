"""Half precision on devices that support it, and an error on others."""

import numpy as np
import pytest
import torch

from ser_platform.errors import UserError
from ser_platform.settings import resolve
from ser_platform.training.loop import Trainer
from ser_platform.training.precision import Precision, make_precision
from tests.conftest import require_bf16_lstm

QUICK = {"model.hidden_size": 8, "model.width": 4, "model.dropout": 0, "train.epochs": 2, "data.max_seconds": 0.4}


@pytest.mark.parametrize(
    ("device", "name", "valid"),
    [("cpu", "fp16", "float32, bf16"), ("mps", "bf16", "float32"), ("mps", "fp16", "float32")],
)
def test_an_unsupported_precision_is_refused_with_the_supported_ones(device, name, valid):
    with pytest.raises(UserError, match=f"^train.precision {name} is not available on {device}; choose from: {valid}$"):
        make_precision(resolve({"train.precision": name}), torch.device(device))


def test_float32_computes_in_float32_and_bf16_in_bf16_with_weights_in_float32():
    layer, row = torch.nn.Linear(3, 3), torch.randn(1, 3)
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        precision = make_precision(resolve({"train.precision": name}), torch.device("cpu"))
        with precision.autocast():
            out = layer(row)
        precision.backward(out.float().sum())
        assert out.dtype == dtype
        assert layer.weight.dtype == layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("name", ["bilstm", "cnn_bilstm", "conformer", "separable_cnn"])
def test_bf16_on_the_cpu_trains_like_float32_within_tolerance(name, training_data):
    if "bilstm" in name:
        require_bf16_lstm()
    runs = []
    for precision in ("float32", "bf16"):
        settings = resolve(QUICK | {"model.name": name, "train.precision": precision})
        trainer = Trainer(settings, training_data(settings))
        runs.append(([result.train_loss for result in trainer.epochs()], trainer.logits(trainer.data.dev)))
    assert runs[0][0] != runs[1][0]
    np.testing.assert_allclose(runs[1][0], runs[0][0], rtol=0.05)
    assert runs[1][1].dtype == np.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", ["cnn_bilstm", "conformer"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_on_cuda_learns(name, precision, training_data):
    settings = resolve(QUICK | {"model.name": name, "train.precision": precision, "train.epochs": 6})
    trainer = Trainer(settings, training_data(settings), device=torch.device("cuda"))
    results = list(trainer.epochs())
    assert results[-1].train_loss < results[0].train_loss
    resumed = Trainer(settings, trainer.data, device=torch.device("cuda"))
    resumed.resume(trainer.make_checkpoint())
    if precision == "fp16":
        assert resumed.precision.scaler.get_scale() == trainer.precision.scaler.get_scale()


def test_an_overflowing_gradient_leaves_out_the_update_and_lowers_the_scale():
    layer = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    precision = Precision("cpu", torch.bfloat16, torch.amp.GradScaler("cpu", init_scale=4.0))
    before = layer.weight.clone()
    precision.backward(layer(torch.tensor([[float("inf"), 1.0]])).sum())
    precision.step(optimizer, layer.parameters(), 1.0)
    assert torch.equal(layer.weight, before) and precision.scaler.get_scale() == 2.0

    optimizer.zero_grad()
    precision.backward(layer(torch.tensor([[3.0, 4.0]])).sum())
    precision.step(optimizer, [layer.weight], 1.0)
    # The gradient (3, 4) of norm 5 is cut to norm 1, whatever the scale.
    torch.testing.assert_close(before - layer.weight, torch.tensor([[0.06, 0.08]]), atol=1e-5, rtol=0)
