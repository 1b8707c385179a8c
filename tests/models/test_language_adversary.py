import pytest
import torch
from torch.nn import functional as F

from ser_platform.models.language_adversary import LanguageAdversary, reverse_gradient


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, 2.5])
def test_values_pass_and_gradients_come_back_times_minus_the_weight(weight):
    x = torch.randn(4, 3, requires_grad=True)
    passed = reverse_gradient(x, weight)
    assert torch.equal(passed, x)
    arriving = torch.randn(4, 3)
    passed.backward(arriving)
    assert torch.equal(x.grad, -weight * arriving)


def test_an_adversary_learns_languages_and_its_embeddings_unlearn_them():
    torch.manual_seed(0)
    adversary, languages = LanguageAdversary(6, 2), torch.tensor([0, 1, 0, 1])
    embeddings = torch.randn(4, 6, requires_grad=True)
    F.cross_entropy(adversary(embeddings, 0.5), languages).backward()
    plain = embeddings.detach().clone().requires_grad_()
    F.cross_entropy(adversary.layers(plain), languages).backward()
    torch.testing.assert_close(embeddings.grad, -0.5 * plain.grad)
    # The adversary itself descends: both passes gave its weights the same gradient.
    twice = adversary.layers[0].weight.grad.clone()
    adversary.zero_grad()
    F.cross_entropy(adversary(embeddings.detach(), 0.5), languages).backward()
    torch.testing.assert_close(2 * adversary.layers[0].weight.grad, twice)
