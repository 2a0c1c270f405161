"""What CompleteNet is made of."""

import torch

from potnet.models.completenet import compressed


def test_what_is_compressed_grows_like_its_root_and_has_all_derivatives():
    generator = torch.Generator().manual_seed(0)
    x = 10 * torch.randn(50, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(compressed(x), x * (1 + x**2) ** -0.25)
    torch.testing.assert_close(compressed(1e6 * x.abs()), (1e6 * x.abs()).sqrt())
    x.requires_grad_()
    assert torch.autograd.gradcheck(compressed, (x,))
    assert torch.autograd.gradgradcheck(compressed, (x,))
