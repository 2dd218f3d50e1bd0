"""L2 balls: which points lie in one, an attack in one, and margins that hold on all of one.

The ball is {z : ||z - x||_2 <= eps}. The attack keeps to its part in [0, 1]; bounds cover all of it, hence that part.
As on boxes, an attack may use points of the exact ball only, and bounds are moved outward by every rounding error of
the execution and of their own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gls_es.basics.deadline import Deadline
from gls_es.bounds import Box, Plan, entry_box, method_named
from gls_es.bounds.query import Query
from gls_es.certification.attack import AttackOptions, AttackResult, confirmed
from gls_es.certification.execution import Executor
from gls_es.certification.rounding import ExecutionModel
from gls_es.network import Network

_WITHIN = 1 - 1e-6  # of the radius: where points are put, so that rounding to float32 leaves them inside


def in_ball(points: Tensor, images: Tensor, *, eps: float, clip: bool) -> Tensor:
    """Which rows surely lie in the exact ball, (B,) bool; on its rim the answer may be no.

    The float64 sum of n squares errs by a factor of 1 + (n + 4) 2^-53 at most, each difference's rounding included.

    Args:
        points: (B, *shape), float32.
        images: the centres, of a shape that broadcasts with it, float32.
        eps: the radius.
        clip: whether points have to lie in [0, 1].
    """
    difference = (points.double() - images.double()).flatten(1)
    squares = difference.square().sum(1) * (1 + 2.0**-52 * (difference.shape[1] + 8))
    tiny = difference.shape[1] * torch.finfo(torch.float64).tiny  # what squares lose that underflow
    good = squares + tiny <= eps * eps * (1 - 2.0**-51)
    good |= (difference == 0).all(1)
    return good & ((points >= 0) & (points <= 1)).flatten(1).all(1) if clip else good


def inscribed(eps: float, pixels: int) -> float:
    """The radius of an L∞ ball that lies inside the L2 ball."""
    return eps / math.sqrt(pixels) * _WITHIN


def find_in_ball(
    network: Network,
    images: Tensor,
    labels: Tensor,
    eps: float,
    *,
    indices: list[int],
    options: AttackOptions,
    dtype: torch.dtype,
    clip: bool,
    seed: int,
    deadline: Deadline,
) -> AttackResult:
    """Search every image's L2 ball for a point that is not classified as labelled; arguments as for boxes.

    Steps of length α eps down the gradient of the least margin from the image, then from random points down those of
    single margins, the least at the image first; each is put back into the ball (Madry et al. 2018, arXiv 1706.06083,
    with the L2 norm). The least margin alone may lead to a class that the ball does not reach.
    """
    executors = tuple(Executor(network, dtype=kind, device=images.device) for kind in (dtype, torch.float64))
    least = torch.full((len(images),), math.inf, dtype=torch.float64, device=images.device)
    found: list[Tensor | None] = [None] * len(images)
    starts = [_starts(images[row].shape, options.restarts, seed=seed, index=name) for row, name in enumerate(indices)]
    for restart in range(options.restarts):
        points = _back(images + torch.stack([s[restart] for s in starts]).to(images) * eps, images, eps, clip=clip)
        for step in range(options.steps + 1):
            points = points.detach().requires_grad_(step < options.steps)
            every = executors[0].margins(points, labels)
            if restart == step == 0:
                nearest = torch.nan_to_num(every.detach(), nan=math.inf).argsort(1)
            margins = every.amin(1)
            least = torch.minimum(least, torch.nan_to_num(margins.detach().double(), nan=math.inf))
            inside = in_ball(points.detach(), images, eps=eps, clip=clip)
            for row in ((margins <= 0) & inside).nonzero().flatten().tolist():
                margin = confirmed(points[row : row + 1].detach(), labels[row : row + 1], executors)
                if found[row] is None and margin is not None:
                    found[row], least[row] = points[row].detach().cpu().clone(), margin
            if step == options.steps or deadline.late() or all(one is not None for one in found):
                break
            aims = nearest[:, (restart - 1) % nearest.shape[1]][:, None]
            (gradient,) = torch.autograd.grad((every.gather(1, aims) if restart else margins).sum(), points)
            length = gradient.flatten(1).norm(dim=1).clamp_min(1e-30).reshape(-1, *[1] * (images.dim() - 1))
            moved = points.detach() - options.step_at(step) * eps * torch.nan_to_num(gradient / length)
            points = _back(moved, images, eps, clip=clip)
    return AttackResult(tuple(found), least.cpu())


def _starts(shape: torch.Size, restarts: int, *, seed: int, index: int) -> Tensor:
    """Directions times lengths in [0, 1], (restarts, *shape), of one image; the first is the image itself."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**63)
    drawn = torch.randn(restarts, *shape, generator=generator)
    length = drawn.flatten(1).norm(dim=1).reshape(-1, *[1] * len(shape))
    drawn = drawn / length * torch.rand(length.shape, generator=generator)
    drawn[0] = 0.0
    starts: Tensor = drawn
    return starts


def _back(points: Tensor, images: Tensor, eps: float, *, clip: bool) -> Tensor:
    """The points moved towards their centres until they lie in the ball, and in [0, 1]."""
    offset = points - images
    length = offset.flatten(1).norm(dim=1).reshape(-1, *[1] * (images.dim() - 1))
    put = images + offset * (eps * _WITHIN / length.clamp_min(1e-30)).clamp(max=1.0)
    back: Tensor = put.clamp(0.0, 1.0) if clip else put
    return back


@torch.no_grad()
def ball_margins(
    net: Network, images: Tensor, labels: Tensor, method: str, *, eps: float, execution: str, plan: Plan | None = None
) -> Tensor:
    """Lower bounds of the margins on L2 balls that hold for the executed network, see ``rounding.sound_margins``.

    Args:
        net: the network; its own weights are bounded.
        images: the centres, (B, *input_shape), float32, taken as exact numbers.
        labels: (B,), int64.
        method: a relaxation with ``balls``.
        eps: the radius; rounded up by one step, so that ``8 / 255`` stands for the fraction.
        execution: "float32", "float64" or "real".
        plan: chunk sizes; None for what suits the device.

    Returns:
        (B, K - 1), float64. NaN and infinities mean that nothing is known.
    """
    model = ExecutionModel.named(execution, net.graph)
    net = net if execution == "float32" else net.wide()
    weights = net.parameter_vector()
    weights = weights.float() if execution == "float32" else weights
    centre = images.double()[None]
    radius = torch.full_like(centre, math.nextafter(eps, math.inf) if eps > 0 else 0.0)
    flushed = torch.full_like(centre, model.tiny)  # an input that small may be taken for 0
    box = entry_box(net, Box(centre, radius, round=True, slack=flushed), model.error)
    query = Query.ask(net, weights.to(centre)[None], box, plan=plan, rounding=model.error, guard=model.guard)
    chosen = method_named(method)
    chosen.preactivations(query)
    return chosen.margins(query, labels)[0]
