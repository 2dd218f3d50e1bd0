"""BatchNorm's statistics: PyTorch's updates, exact ones over a set, and bounds that follow them."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import gls_es
from gls_es.errors import ConfigError
from gls_es.network import Network
from gls_es.network.batchnorm import has_statistics, precise_statistics, updated_statistics


class Twice(nn.Module):
    """A BatchNorm after an addition, and one that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.shared, self.after = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.last = nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.shared(self.first(x)).relu()
        z = self.shared(self.second(y)).relu()
        return self.last(self.after(y + z).flatten(1))


def plain() -> nn.Sequential:
    """Convolution and linear layers with BatchNorm of different momentum after each."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 2, stride=2),
        nn.BatchNorm2d(6, momentum=0.3, affine=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 5),
        nn.BatchNorm1d(5),
        nn.ReLU(),
        nn.Linear(5, 3),
    )


def network(module: nn.Module, *, touched: bool = True) -> Network:
    torch.manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and touched:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
    return Network(module, (1, 6, 6))


def some_weights(net: Network) -> Tensor:
    own = net.parameter_vector()
    return own + 0.3 * torch.randn(len(own), generator=torch.Generator().manual_seed(1))


def batches(count: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(8, 1, 6, 6, generator=generator) for _ in range(count)]


def statistics(module: nn.Module) -> dict[str, Tensor]:
    return {name: b for name, b in module.named_buffers() if name.endswith(("mean", "var"))}


@pytest.mark.parametrize("make", [plain, Twice])
def test_a_sequence_of_updates_is_that_of_train_mode(make: type) -> None:
    net = network(make())
    params = some_weights(net)
    torch_module = net.module(params).train()
    for images in batches():
        torch_module(images)
        net.load_buffers(updated_statistics(net, params, images))
    wanted, found = statistics(torch_module), statistics(net.module())
    assert wanted.keys() == found.keys()
    for name in wanted:
        assert torch.equal(found[name], wanted[name]), name


def test_the_first_layer_by_hand() -> None:
    net = network(plain())
    params = some_weights(net)
    before = statistics(net.module())
    (images,) = batches(1)
    after = updated_statistics(net, params, images)
    received = net.module(params)[0](images).double().movedim(1, 0).flatten(1)
    mean, variance = received.mean(1), received.var(1, unbiased=True)
    for name, value in (("1.running_mean", mean), ("1.running_var", variance)):
        torch.testing.assert_close(
            after[name].double(), 0.9 * before[name].double() + 0.1 * value, rtol=1e-5, atol=1e-6
        )


def test_the_first_update_leaves_nothing_of_the_initial_guess() -> None:
    net = network(plain(), touched=False)
    (images,) = batches(1)
    first = updated_statistics(net, net.parameter_vector(), images)
    received = net.module()[0](images).movedim(1, 0).flatten(1)
    torch.testing.assert_close(first["1.running_mean"], received.mean(1))
    torch.testing.assert_close(first["1.running_var"], received.var(1))


def test_updating_changes_only_statistics() -> None:
    net = network(plain())
    own, buffers = net.parameter_vector(), net.buffers()
    found = updated_statistics(net, some_weights(net), batches(1)[0])
    assert torch.equal(net.parameter_vector(), own)
    assert all(torch.equal(net.buffers()[name], value) for name, value in buffers.items())
    assert found.keys() == {f"{i}.running_{kind}" for i in (1, 4, 8) for kind in ("mean", "var")}
    assert not any(module.training for module in net.module().modules())


def test_statistics_that_are_not_finite_are_not_taken() -> None:
    net = network(plain())
    params = some_weights(net)
    params[net.named_slices()["7.bias"]] = torch.inf
    found = updated_statistics(net, params, batches(1)[0])
    before = statistics(net.module())
    assert torch.equal(found["8.running_mean"], before["8.running_mean"])
    assert not torch.equal(found["4.running_mean"], before["4.running_mean"])
    settled = precise_statistics(net, params, lambda: iter(batches()))
    assert torch.equal(settled["8.running_mean"], before["8.running_mean"])
    assert not torch.equal(settled["4.running_mean"], before["4.running_mean"])


def test_a_single_image_has_no_variance() -> None:
    net = network(plain())
    with pytest.raises(ConfigError, match="batch_size must be at least 2, not 1"):
        updated_statistics(net, net.parameter_vector(), batches(1)[0][:1])


def test_precise_statistics_are_mean_and_variance_over_the_set() -> None:
    net = network(plain())
    params = some_weights(net)
    images = torch.cat(batches())
    net.load_buffers(precise_statistics(net, params, lambda: iter(images.split(7))))
    module = net.module(params).double()
    values = images.double()
    for index, layer in enumerate(module):
        if f"{index}.running_mean" in statistics(module):
            channels = values.movedim(1, 0).flatten(1)
            mean, variance = channels.mean(1), channels.var(1, unbiased=False)
            torch.testing.assert_close(layer.running_mean, mean, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(layer.running_var, variance, rtol=1e-5, atol=1e-6)
        values = layer(values)


def test_precise_statistics_of_a_shared_layer_are_those_of_all_it_receives() -> None:
    net = network(Twice())
    params = some_weights(net)
    images = torch.cat(batches())
    before = net.module(params).double()
    first = before.first(images.double())
    second = before.second(before.shared(first).relu())
    both = torch.cat([first, second]).movedim(1, 0).flatten(1)
    found = precise_statistics(net, params, lambda: iter(images.split(16)))
    torch.testing.assert_close(found["shared.running_mean"].double(), both.mean(1), rtol=1e-5, atol=1e-6)
    net.load_buffers(found)
    after = net.module(params).double()
    y = after.shared(after.first(images.double())).relu()
    received = (y + after.shared(after.second(y)).relu()).movedim(1, 0).flatten(1)
    torch.testing.assert_close(found["after.running_var"].double(), received.var(1, unbiased=False), rtol=1e-5, atol=0)


def test_batches_do_not_matter() -> None:
    net = network(plain())
    images = torch.cat(batches())

    def found(size: int) -> dict[str, Tensor]:
        def parts() -> Iterator[Tensor]:
            yield from images.split(size)

        return precise_statistics(net, net.parameter_vector(), parts)

    whole, parts = found(40), found(3)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", gls_es.bounds.METHODS)
def test_bounds_follow_the_statistics_and_stay_sound(method: str) -> None:
    net = network(plain())
    params = torch.stack([net.parameter_vector(), some_weights(net)])
    (images,) = batches(1)
    labels = torch.arange(8) % 3
    images, params = images.double(), params.double()
    lower, upper = images - 0.05, images + 0.05
    stale = gls_es.bounds.margins(net, lower, upper, labels, method, params)
    net.load_buffers(updated_statistics(net, params[1], images.float()))
    found = gls_es.bounds.margins(net, lower, upper, labels, method, params)
    assert not torch.allclose(found, stale)
    fresh = Network(net.module(), (1, 6, 6))
    assert torch.equal(found, gls_es.bounds.margins(fresh, lower, upper, labels, method, params))
    generator = torch.Generator().manual_seed(3)
    for member, weights in enumerate(params):
        module = net.module(weights.float()).double()
        for _ in range(30):
            points = torch.lerp(lower, upper, torch.rand(images.shape, generator=generator, dtype=images.dtype))
            logits = module(points)
            others = [[j for j in range(3) if j != int(label)] for label in labels]
            margins = logits.gather(1, labels[:, None]) - logits.gather(1, torch.tensor(others))
            assert bool((found[member] <= margins).all())


def test_what_has_statistics() -> None:
    assert has_statistics(network(plain()))
    assert has_statistics(network(Twice()))
    assert not has_statistics(Network(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), (1, 6, 6)))


def test_momentum_none_counts_as_a_tenth() -> None:
    module = plain()
    cumulative = copy.deepcopy(module)
    cumulative[1].momentum = None
    nets = [network(m) for m in (module, cumulative)]
    nets[1].load_buffers(nets[0].buffers())
    found = [updated_statistics(net, nets[0].parameter_vector(), batches(1)[0]) for net in nets]
    assert torch.equal(found[0]["1.running_mean"], found[1]["1.running_mean"])
