import pytest
import torch
from torch.nn import functional as F

from ser_platform.models.language_adversary import LanguageAdversary, reverse_gradient


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, 2.5])
def test_reverse_gradient_multiplies_gradients_by_minus_the_weight(weight):
    x = torch.randn(4, 3, requires_grad=True)
    passed = reverse_gradient(x, weight)
    assert torch.equal(passed, x)
    arriving = torch.randn(4, 3)
    passed.backward(arriving)
    assert torch.equal(x.grad, -weight * arriving)


def test_the_adversary_gets_the_gradient_and_the_embeddings_get_its_opposite():
    torch.manual_seed(0)
    adversary, languages = LanguageAdversary(6, 2), torch.tensor([0, 1, 0, 1])
    embeddings = torch.randn(4, 6, requires_grad=True)
    F.cross_entropy(adversary(embeddings, 0.5), languages).backward()
    plain = embeddings.detach().clone().requires_grad_()
    F.cross_entropy(adversary.layers(plain), languages).backward()
    torch.testing.assert_close(embeddings.grad, -0.5 * plain.grad)
    # Both passes add the same gradient to the adversary's own weights.
    twice = adversary.layers[0].weight.grad.clone()
    adversary.zero_grad()
    F.cross_entropy(adversary(embeddings.detach(), 0.5), languages).backward()
    torch.testing.assert_close(2 * adversary.layers[0].weight.grad, twice)
