"""Boxes of each member's own give what each member alone has on its box."""

import pytest
import torch

from gls_es import bounds
from gls_es.bounds import METHODS, Box, Plan, box_margins, box_preactivations, entry_box
from tests.fitness.nets import CLASSES, members, network


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("group", [2, 64])
def test_members_with_their_own_boxes_are_a_loop(method: str, group: int) -> None:
    net, count = network(), 5
    values = members(net, count)
    generator = torch.Generator().manual_seed(7)
    centre = torch.rand(count, 3, 1, 6, 6, generator=generator, dtype=torch.float64)
    lower, upper = centre - 0.03, centre + 0.05
    labels = torch.arange(3) % CLASSES
    box, plan = entry_box(net, Box.of_members(lower, upper)), Plan(1 << 30, members=group)
    found = box_margins(net, box, labels, values, method=method, plan=plan)
    layers = box_preactivations(net, box, values, method=method, plan=plan)
    for index, (member, low, high) in enumerate(zip(values, lower, upper, strict=True)):
        wanted = bounds.margins(net, low, high, labels, method, member[None])
        assert torch.allclose(found[index], wanted[0], rtol=1e-10, atol=1e-12)
        alone = bounds.preactivations(net, low, high, method, member[None])
        for pair, wanted_pair in zip(layers, alone, strict=True):
            for bound, wanted_bound in zip(pair, wanted_pair, strict=True):
                assert torch.allclose(bound[index], wanted_bound[0], rtol=1e-10, atol=1e-12)


def test_logits_of_each_members_own_images() -> None:
    net = network()
    values = members(net, 4)
    images = torch.rand(4, 3, 1, 6, 6, dtype=torch.float64)
    found = net.logits(images, values)
    assert found.shape == (4, 3, CLASSES)
    for member, own, row in zip(values, images, found, strict=True):
        assert torch.allclose(row, net.module(member)(own), rtol=1e-10)
    with pytest.raises(ValueError, match="images must have shape"):
        net.logits(images[:3], values)
