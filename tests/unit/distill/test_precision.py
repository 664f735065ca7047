"""Networks that compute in fewer bits."""

from __future__ import annotations

import torch

from histill.core.manifests import Normalization
from histill.core.specs import NetworkSpec
from histill.distill.nets import build_network
from histill.distill.precision import InBfloat16
from histill.distill.predict import Normalized


def test_bfloat16_rounds_and_no_more() -> None:
    """Logits change a little, by what eight bits of mantissa leave, and stay 32-bit floats."""
    torch.manual_seed(0)
    spec = NetworkSpec(architecture="unet", width=4, depth=2)
    constants = Normalization(mean=(0.5,), std=(0.25,))
    net = Normalized(build_network(spec, channels=1, classes=2), constants).eval()
    images = torch.rand(2, 1, 32, 32) * 255
    with torch.no_grad():
        exact, rounded = net(images), InBfloat16(net)(images)
    assert rounded.dtype == torch.float32
    apart = (exact - rounded).abs().max() / exact.abs().max()
    assert 1e-5 < apart < 0.1
