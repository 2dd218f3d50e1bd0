"""What forward does for one image, for many, with gradients on or in inference_mode is the graph, or it is refused.

The second function differs from the first in a narrow place alone, which no image of tracing lies in: numbers show
nothing there, so that all these modules have to be refused.
"""

import concurrent.futures

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.dlpack import from_dlpack, to_dlpack

import gls_es
from gls_es.errors import UnsupportedNetworkError


class Bumped(nn.Module):
    """A layer, and where a condition holds a step that changes its first logit near 0.533 only."""

    def __init__(self, condition: object) -> None:
        super().__init__()
        self.layer, self.condition = nn.Linear(2, 2), condition

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return y - 1000 * torch.relu(0.002 - (x[:, :1] - 0.533).abs()) if self.condition(self, x) else y


CONDITIONS = {
    "one image": lambda n, x: len(x) == 1,
    "two images": lambda n, x: len(x) == 2,
    "eight images": lambda n, x: len(x) >= 8,
    "a hundred images": lambda n, x: len(x) > 100,
    "an even batch": lambda n, x: len(x) % 2 == 0,
    "gradients on": lambda n, x: torch.is_grad_enabled(),
    "gradients on, one image": lambda n, x: torch.is_grad_enabled() and len(x) == 1,
    "gradients on, several images": lambda n, x: torch.is_grad_enabled() and len(x) > 1,
    "gradients on, weights as they are": lambda n, x: torch.is_grad_enabled() and n.layer.weight.requires_grad,
    "gradients off, one image": lambda n, x: not torch.is_grad_enabled() and len(x) == 1,
    "input needs a gradient": lambda n, x: x.requires_grad,
    "result needs a gradient": lambda n, x: n.layer(x).grad_fn is not None,
    "inference_mode": lambda n, x: torch.is_inference_mode_enabled(),
    "inference_mode, one image": lambda n, x: torch.is_inference_mode_enabled() and len(x) == 1,
    "inference_mode, several images": lambda n, x: x.is_inference() and len(x) > 1,
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_what_hangs_on_the_circumstances_of_a_call_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedNetworkError, match=r"size of the batch|from one pass to the next"):
        gls_es.Network(Bumped(CONDITIONS[name]), (2,))


@pytest.mark.parametrize("held", ["never", "always"])
def test_the_same_modules_are_taken_if_nothing_hangs_on_it(held: str) -> None:
    torch.manual_seed(0)
    module = Bumped(lambda n, x: held == "always").double()
    x = torch.rand(5, 2, dtype=torch.float64)
    x[0, 0] = 0.533
    torch.testing.assert_close(gls_es.Network(module, (2,)).logits(x)[0], module(x), rtol=0, atol=1e-9)


def test_rows_that_inference_mode_multiplies_by_another_operator_are_taken() -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows, self.last = nn.Linear(4, 6, bias=False), nn.Linear(24, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.relu(self.rows(x.transpose(1, 2))).flatten(1))

    x = torch.rand(3, 4, 4)
    torch.testing.assert_close(gls_es.Network(module := Rows(), (4, 4)).logits(x)[0], module(x))


def test_what_cannot_be_run_with_gradients_has_no_other_function_there() -> None:
    class Out(Bumped):
        def forward(self, x: Tensor) -> Tensor:
            return self.layer(torch.mul(x, 2.0, out=torch.empty_like(x)))  # no gradient may be needed

    x = torch.rand(3, 2)
    torch.testing.assert_close(gls_es.Network(module := Out(None), (2,)).logits(x)[0], module(x))


@pytest.mark.parametrize("size", [1, 5])
def test_steps_behind_the_result_are_told_or_do_no_harm(size: int) -> None:
    class Behind(Bumped):
        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x)
            return (y, y * 3 if len(x) != size else None)[0]

    x = torch.rand(3, 2)
    try:
        net = gls_es.Network(module := Behind(None), (2,))
    except UnsupportedNetworkError:
        return
    torch.testing.assert_close(net.logits(x)[0], module(x))


@pytest.mark.parametrize("step", [lambda h: h.squeeze(), lambda h: h.squeeze().flatten(1)], ids=["shape", "failure"])
def test_losing_the_batch_axis_of_one_image_is_told(step: object) -> None:
    class Squeezed(Bumped):
        def forward(self, x: Tensor) -> Tensor:
            return step(self.layer(x)[:, None])

    with pytest.raises(UnsupportedNetworkError, match=r"one image|batch axis"):
        gls_es.Network(Squeezed(None), (2,))


def _bump(x: Tensor) -> Tensor:
    rise = -1000 * torch.relu(0.002 - (x[:, :1] - 0.533).abs())
    return torch.cat([rise, 0 * rise], 1)


def _elsewhere(step: object) -> object:
    """What a step returns when another thread executes it."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(step).result()


def _many_elsewhere(x: Tensor, y: Tensor) -> Tensor:
    return _elsewhere(lambda: y.add_(_bump(x))) if len(x) > 2 else y


def _disabled(x: Tensor, y: Tensor) -> Tensor:
    with _disable_current_modes():
        y += _bump(x)
    return y


HIDDEN = {
    "branch in a thread": lambda x, y: y + _elsewhere(lambda: _bump(x)),
    "in place in a thread for several images": _many_elsewhere,
    "in place in a thread": lambda x, y: _elsewhere(lambda: y.add_(_bump(x))),
    "data in place in a thread": lambda x, y: (_elsewhere(lambda: y.data.add_(_bump(x))), y)[1],
    "NumPy in a thread": lambda x, y: y + torch.from_numpy(_elsewhere(lambda: _bump(x).numpy() + 0)),
    "modes switched off": _disabled,
    "DLPack": lambda x, y: y + from_dlpack(to_dlpack(_bump(x))),
    "NumPy over DLPack": lambda x, y: y + torch.from_numpy(from_dlpack(to_dlpack(_bump(x))).numpy()),
}


class Elsewhere(Bumped):
    def forward(self, x: Tensor) -> Tensor:
        return self.condition(x, self.layer(x))


@pytest.mark.parametrize("name", HIDDEN)
def test_steps_where_nobody_looks_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedNetworkError, match=r"nobody sees it|is not seen|subclass of torch.Tensor"):
        gls_es.Network(Elsewhere(HIDDEN[name]), (2,))


@pytest.mark.parametrize("table", [np.ones(2, dtype=np.float32), [1.0, 2.0]], ids=["array", "list"])
def test_constants_that_forward_makes_of_numbers_are_taken(table: object) -> None:
    net = Elsewhere(lambda x, y: y + torch.as_tensor(table) + torch.tensor([0.5, 0.25]))
    x = torch.rand(3, 2)
    torch.testing.assert_close(gls_es.Network(net, (2,)).logits(x)[0], net(x))
