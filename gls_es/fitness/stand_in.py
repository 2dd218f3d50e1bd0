"""``robust`` with a cheap relaxation standing in for a dear one, without a bias: a control variate.

Where intervals inside CROWN's backward pass give nearly the same loss as CROWN's own bounds there, for a third of the
time, most of a minibatch can do with the former. Let s_i be an image's loss under the stand-in and t_i under the
method itself, which is computed for n of the B images only. With a constant c

    mean over B of (c s_i)  +  mean over n of (t_i - c s_i)

has the expectation of t over the choice of images, whatever s and c are, for every member and so for whatever is
estimated from the members' losses: the gradient of the method's smoothed loss among them. Its variance is small where
s varies from image to image and from member to member as t does. As losses of images, whose mean this is, it reads

    c s_i  for i > n,    c s_i + (B / n) (t_i - c s_i)  for i <= n.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gls_es.bounds import Plan
from gls_es.fitness.loss import Loss, passes_of_method
from gls_es.fitness.minibatch import Minibatch
from gls_es.fitness.robust import robust_losses
from gls_es.network import Network

SHARE = 0.9
"""c: a looser relaxation's losses vary a little more than the method's."""


def image_losses_with_stand_in(net: Network, batch: Minibatch, params: Tensor, plan: Plan) -> Tensor:
    """Every member's robust cross-entropy on every image, (n, B), in the mean over images without a bias."""
    if not batch.stage.stand_in or batch.exact_weight == 1.0:  # none, or none that needs it
        return robust_losses(net, batch, params, plan)
    cheap = SHARE * robust_losses(net, batch, params, plan, method=batch.stage.stand_in)
    if batch.exact == 0:
        return cheap
    first = cheap[:, : batch.exact]
    dear = robust_losses(net, batch.part(0, batch.exact), params, plan)
    return torch.cat([first + batch.exact_weight * (dear - first), cheap[:, batch.exact :]], dim=1)


ROBUST = Loss("robust", "cross-entropy of the relaxation's worst case", image_losses_with_stand_in, passes_of_method)
