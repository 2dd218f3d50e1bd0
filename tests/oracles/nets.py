"""The zoo: small networks that between them hold every layer, spelling and arrangement that gls_es accepts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tests.oracles import zoo_conv, zoo_dense, zoo_residual, zoo_structure


@dataclass(frozen=True)
class Case:
    """A zoo network: make() returns a module with ``forward`` and ``dag``; eps leaves some, not all, ReLUs unstable."""

    name: str
    make: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    eps: float = 0.1
    affine: bool = False
    trained: bool = False  # make() sets meaningful weights itself

    def build(self, seed: int = 0) -> nn.Module:
        """The network in eval mode with weights and BatchNorm statistics drawn for this seed."""
        module = self.make()
        if not self.trained:
            randomise(module, torch.Generator().manual_seed(seed))
        return module.eval()


def randomise(module: nn.Module, generator: torch.Generator) -> None:
    """Weights of variance 2/fan-in, biases that matter, BatchNorm with γ of both signs and non-trivial statistics."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    gammas = {id(m.weight) for m in norms}

    def normal(t: Tensor) -> Tensor:
        return torch.randn(t.shape, generator=generator)

    with torch.no_grad():
        for p in module.parameters():
            if id(p) in gammas:
                p.copy_(normal(p).sign() * (0.5 + torch.rand(p.shape, generator=generator)))
            elif p.dim() > 1:
                p.copy_(normal(p) * (2 / p[0].numel()) ** 0.5)
            else:
                p.copy_(0.3 * normal(p))
        for m in norms:
            m.running_mean.copy_(0.4 * normal(m.running_mean))
            m.running_var.copy_(0.3 + torch.rand(m.running_var.shape, generator=generator))


def population(module: nn.Module, members: int, *, seed: int = 0, sigma: float = 0.05) -> Tensor:
    """(members, L): the module's own weights first, then perturbed ones."""
    generator = torch.Generator().manual_seed(1000 + seed)
    center = nn.utils.parameters_to_vector(module.parameters()).detach()
    noise = torch.randn((members, center.numel()), generator=generator, dtype=center.dtype)
    noise[0] = 0
    return center + sigma * noise


def boxes(case: Case, images: int, *, seed: int = 0, eps: float | None = None) -> tuple[Tensor, Tensor]:
    """(images, *input_shape) lower and upper corners in float32: balls around uniform points, clipped to [0, 1]."""
    generator = torch.Generator().manual_seed(2000 + seed)
    x = torch.rand((images, *case.input_shape), generator=generator)
    radius = case.eps if eps is None else eps
    return (x - radius).clamp(0, 1), (x + radius).clamp(0, 1)


def _conv(*args: int, height: int = 6, width: int = 6, **kwargs: object) -> nn.Module:
    return zoo_conv.conv_net(nn.Conv2d(*args, **kwargs), height, width)


DENSE = [
    Case("mlp", zoo_dense.mlp, (6,), 0.15),
    Case("mlp_deep", zoo_dense.mlp_deep, (5,), 0.05),
    Case("mlp_without_bias", zoo_dense.mlp_without_bias, (6,), 0.2),
    Case("mlp_two_classes", zoo_dense.mlp_two_classes, (4,), 0.25),
    Case("consecutive_linear", zoo_dense.consecutive_linear, (5,), 0.15),
    Case("affine_single", zoo_dense.affine_single, (3, 2, 2), affine=True),
    Case("affine_chain", zoo_dense.affine_chain, (1, 4, 5), affine=True),
    Case("batch_norm_1d", zoo_dense.batch_norm_1d, (6,)),
    Case("batch_norm_1d_before", zoo_dense.batch_norm_1d_before, (6,), 0.15),
    Case("batch_norm_without_affine", zoo_dense.batch_norm_without_affine, (6,), 0.15),
    Case("dropout", zoo_dense.dropout, (6,)),
    Case("relu_first", zoo_dense.relu_first, (5,), 0.25),
    Case("relu_twice", zoo_dense.relu_twice, (5,), 0.2),
    Case("relu_last", zoo_dense.relu_last, (5,), 0.2),
    Case("batch_norm_last", zoo_dense.batch_norm_last, (5,), 0.15),
    Case("shared_layer", zoo_dense.SharedLayer, (5,), 0.1),
    Case("tied_weights", zoo_dense.TiedWeights, (5,), 0.1),
    Case("out_of_order", zoo_dense.OutOfOrder, (5,), 0.2),
]

CONV = [
    Case("conv_padding", partial(_conv, 2, 3, 3, padding=1), (2, 6, 6)),
    Case("conv_stride", partial(_conv, 2, 4, 3, stride=2, padding=1, bias=False), (2, 6, 6)),
    Case("conv_dilation", partial(_conv, 2, 3, 3, dilation=2, padding=2), (2, 6, 6)),
    Case("conv_groups", partial(_conv, 4, 6, 2, groups=2, stride=2), (4, 6, 6)),
    Case("conv_depthwise", partial(_conv, 3, 6, 3, groups=3), (3, 6, 6)),
    Case("conv_rectangular", partial(_conv, 2, 3, (3, 2), stride=(2, 1), padding=(1, 0), height=5), (2, 5, 6)),
    Case("conv_stride_over_kernel", partial(_conv, 2, 4, 2, stride=3, height=7, width=8), (2, 7, 8)),
    Case("conv_padding_over_kernel", partial(_conv, 2, 4, 2, stride=2, padding=2, height=3, width=4), (2, 3, 4)),
    Case("conv_mixed", zoo_conv.conv_mixed, (1, 6, 7)),
    Case("conv_leftover", zoo_conv.conv_leftover, (1, 11, 10)),
    Case("conv_deep", zoo_conv.conv_deep, (2, 6, 6), 0.03),
    Case("batch_norm_2d", zoo_conv.batch_norm_2d, (1, 6, 6), 0.04),
    Case("batch_norm_2d_before", zoo_conv.batch_norm_2d_before, (2, 6, 6), 0.1),
    Case("pool_overlapping", zoo_conv.pool_overlapping, (1, 6, 6)),
    Case("pool_plain", zoo_conv.pool_plain, (1, 7, 7), 0.25),
    Case("pool_global", zoo_conv.pool_global, (1, 6, 6)),
    Case("pool_last", zoo_conv.pool_last, (1, 6, 6)),
    Case("normalize_gls", zoo_conv.normalize_gls, (2, 4, 4), 0.03),
    Case("normalize_by_hand", zoo_conv.NormalizedByHand, (2, 4, 4), 0.03),
    Case("normalize_submodule", zoo_conv.normalize_submodule, (2, 4, 4), 0.03),
    Case("digits_random", zoo_conv.digits_net, (1, 8, 8), 0.05),
]

_PAIRS = [("module", "module"), ("F", "torch"), ("torch", "method"), ("method", "view"), ("F", "reshape")]
SPELLINGS = [Case(f"spelling_{a}_{b}", partial(zoo_conv.Spellings, a, b), (1, 5, 5), 0.15) for a, b in _PAIRS]

RESIDUAL = [
    Case("residual_dense", zoo_residual.ResidualDense, (5,), 0.15),
    Case("affine_branches", zoo_residual.AffineBranches, (5,), 0.15),
    Case("input_skip", zoo_residual.InputSkip, (5,), 0.25),
    Case("resnet", zoo_residual.ResNet, (1, 5, 5), 0.04),
    Case("resnet_pre_activation", zoo_residual.PreActivationResNet, (1, 5, 5), 0.08),
    Case("branch_thrice", zoo_residual.BranchThrice, (5,), 0.15),
    Case("two_heads", zoo_residual.TwoHeads, (5,), 0.15),
    Case("doubled", zoo_residual.Doubled, (5,), 0.15),
    Case("cancelling", zoo_residual.Cancelling, (4,), 0.2),
    Case("structure", zoo_structure.Structure, (2, 4, 4), 0.08),
]

# Maps so large that backward passes stay on windows: the smaller nets above soon see the whole map.
LARGE = [
    Case("large_maps", zoo_conv.large_maps, (1, 13, 12), 0.03),
    Case("large_maps_grouped", zoo_conv.large_maps_grouped, (2, 11, 12), 0.04),
    Case("large_maps_leftover", zoo_conv.large_maps_leftover, (1, 21, 17), 0.08),
    Case("large_maps_pool", zoo_conv.large_maps_pool, (1, 11, 12), 0.04),
    Case("pixel_scale", zoo_conv.PixelScale, (1, 9, 10), 0.04),
    Case("inception", zoo_residual.Inception, (1, 10, 12), 0.04),
    Case("large_resnet", zoo_residual.ResNet, (1, 11, 9), 0.04),
    Case("large_resnet_pre_activation", partial(zoo_residual.PreActivationResNet, 10), (1, 10, 10), 0.06),
]

ZOO = [*DENSE, *CONV, *SPELLINGS, *RESIDUAL, *LARGE]
AFFINE = [case for case in ZOO if case.affine]
WITH_RELU = [case for case in ZOO if not case.affine]
CNN3_SMALL = Case("cnn3_small", zoo_conv.cnn3_small, (1, 28, 28), 0.03)
BY_NAME = {case.name: case for case in [*ZOO, CNN3_SMALL]}
