"""auto_LiRPA (Xu et al. 2020) as a loop over members, where it is installed; gls-es does not depend on it.

Its module is built once and its parameters are overwritten for every member. Of the two ways it has to bound the
intermediate layers, only ``sparse_intermediate_bounds=False`` is the relaxation ``crown``. By default it bounds
backwards only the neurons that intervals leave unstable in some image of the batch, which is nearly ``crown-unstable``:
that intersects those bounds with the intervals, and goes by each image.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from gls_es.benchmark import peer_shim
from gls_es.benchmark.measure import quickest
from gls_es.benchmark.subject import Subject
from gls_es.network import Network

OLDEST = (0, 3)
"""The oldest version whose interface is known here."""

PURE, DEFAULT = "auto_lirpa", "auto_lirpa_default"


@dataclass(frozen=True)
class Peer:
    """What is compared with one relaxation.

    Attributes:
        method: auto_LiRPA's name of it.
        loops: with all neurons bounded backwards (``PURE``), or as it does by default (``DEFAULT``).
        forms: values of ``conv_mode`` among which it gets the quicker one.
    """

    method: str
    loops: tuple[str, ...] = (PURE,)
    forms: tuple[str, ...] = ("patches",)


PEERS = {
    "ibp": Peer("IBP"),
    "crown-ibp": Peer("CROWN-IBP", forms=("patches", "matrix")),
    "crown": Peer("CROWN", (PURE, DEFAULT)),
    "crown-unstable": Peer("CROWN", (DEFAULT,)),
}
"""What auto_LiRPA is compared on.

Intervals have no coefficients. Dense matrices take eight times as long as patches for ``crown`` on CNN3-small.
"""


class PeerLoop:
    """Margins of one member after the other by auto_LiRPA.

    Args:
        package: the module :func:`gls_es.benchmark.peer_shim.load` gave.
        subject: the network and boxes.
        method: its name of the relaxation.
        sparse: its own default for intermediate bounds.
        form: its ``conv_mode``.

    Attributes:
        about: its version and ``conv_mode``, for the record.
    """

    def __init__(
        self, package: ModuleType, subject: Subject, *, method: str, sparse: bool, form: str = "patches"
    ) -> None:
        self.about = {"version": str(package.__version__), "conv_mode": form}
        net = subject.net
        distinct = torch.randn(net.num_parameters, generator=torch.Generator().manual_seed(0)).to(subject.params)
        module = net.module(distinct).to(subject.params.device)
        options = {"conv_mode": form} | ({} if sparse else {"sparse_intermediate_bounds": False})
        images = subject.images
        self._method = method
        with peer_shim.older_names(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is older than some of what it calls
            self._bounded = package.BoundedModule(
                module, torch.empty_like(images), bound_opts=options, device=images.device
            )
        ball = package.PerturbationLpNorm(norm=float("inf"), x_L=subject.lower, x_U=subject.upper)
        self._box = package.BoundedTensor(images, ball)
        self._rows = _margin_rows(subject.labels, net.num_classes).to(images)
        self._places = _places(self._bounded, net, distinct)

    def margins(self, params: Tensor) -> Tensor:
        """Lower bounds of f_y - f_j, (P, B, K - 1)."""
        return torch.stack([self._member(theta) for theta in params])

    @torch.no_grad()
    def _member(self, theta: Tensor) -> Tensor:
        for parameter, place in self._places:
            parameter.copy_(theta[place].reshape(parameter.shape))
        lower: Tensor = self._bounded.compute_bounds(
            x=(self._box,), C=self._rows, method=self._method, bound_upper=False
        )[0]
        return lower


def _places(bounded: Any, net: Network, distinct: Tensor) -> list[tuple[Tensor, slice]]:
    """Where each of the bounded module's renamed parameters lies in the weight vector, found by its numbers."""
    places = list(net.named_slices().values())
    found = [
        (parameter.data, place)
        for node in bounded.children()  # parameters() of version 0.3 fails beside this PyTorch
        for parameter in node.parameters()
        for place in places
        if torch.equal(distinct[place], parameter.detach().flatten())
    ]
    covered = sum(place.stop - place.start for _, place in found)
    if covered != net.num_parameters:
        raise RuntimeError("auto_LiRPA keeps the parameters in another form")
    return found


def _margin_rows(labels: Tensor, classes: int) -> Tensor:
    """e_y - e_j for the classes j other than y in ascending order, (B, K - 1, K)."""
    eye = torch.eye(classes, device=labels.device)
    return torch.stack([(eye[y] - eye)[torch.arange(classes, device=labels.device) != y] for y in labels])


def peer_loops(subject: Subject, method: str) -> tuple[dict[str, PeerLoop], str | None]:
    """auto_LiRPA's loops for the subject by name, or the reason why there are none.

    Returns:
        ``{"auto_lirpa": pure backward bounds, "auto_lirpa_default": its default}``, or one of them, and None; or an
        empty dict and the reason.
    """
    if method not in PEERS:
        return {}, f"auto_LiRPA is not compared on {method}"
    try:
        package = peer_shim.load()
        if not _known(package):
            return {}, f"auto_LiRPA {package.__version__} is older than {'.'.join(map(str, OLDEST))}"
        loops = {
            name: _quickest(package, subject, PEERS[method], sparse=name == DEFAULT) for name in PEERS[method].loops
        }
    except ModuleNotFoundError as error:
        return {}, "auto_LiRPA is not installed" if error.name == "auto_LiRPA" else _failed(error)
    except Exception as error:  # foreign code, which must not end a benchmark
        return {}, _failed(error)
    return loops, None


def _known(package: ModuleType) -> bool:
    version = str(package.__version__).split(".")
    return tuple(int(part) if part.isdigit() else 0 for part in version[:2]) >= OLDEST


def _quickest(package: ModuleType, subject: Subject, peer: Peer, *, sparse: bool) -> PeerLoop:
    """The loop with the quicker form of coefficients in a short trial with one member."""
    loops = {form: PeerLoop(package, subject, method=peer.method, sparse=sparse, form=form) for form in peer.forms}
    first = subject.params[:1]
    trials = {form: partial(loop.margins, first) for form, loop in loops.items()}
    return loops[quickest(trials, device=first.device)]


def _failed(error: Exception) -> str:
    return f"auto_LiRPA failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
