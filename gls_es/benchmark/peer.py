"""auto_LiRPA (Xu et al. 2020) as a loop over members, where it is installed; gls-es does not depend on it.

Its module is built once and its parameters are overwritten for every member. Of the two ways it has to bound the
intermediate layers, only ``sparse_intermediate_bounds=False`` is the relaxation ``crown``; by default it bounds
backwards only the neurons that intervals leave unstable in some image of the batch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from gls_es.benchmark.subject import Subject
from gls_es.network import Network

OLDEST = (0, 5)
"""The oldest version whose interface is known here."""

NAMES = {"ibp": "IBP", "crown-ibp": "CROWN-IBP", "crown": "CROWN"}
"""auto_LiRPA's names of the relaxations."""


def auto_lirpa() -> ModuleType | None:
    """The package, or None if it is missing, too old, or does not load."""
    try:
        found = importlib.import_module("auto_LiRPA")
    except Exception:  # an installation that breaks on this Python or PyTorch is as good as none
        return None
    version = str(getattr(found, "__version__", "0")).split(".")
    numbers = tuple(int(part) if part.isdigit() else 0 for part in version[:2])
    return found if numbers >= OLDEST else None


class PeerLoop:
    """Margins of one member after the other by auto_LiRPA.

    Args:
        package: the module :func:`auto_lirpa` gave.
        subject: the network and boxes.
        method: a key of :data:`NAMES`.
        sparse: its own default for intermediate bounds.
    """

    def __init__(self, package: ModuleType, subject: Subject, *, method: str, sparse: bool) -> None:
        net = subject.net
        distinct = torch.randn(net.num_parameters, generator=torch.Generator().manual_seed(0)).to(subject.params)
        module = net.module(distinct).to(subject.params.device)
        options = {} if sparse else {"sparse_intermediate_bounds": False}
        images = subject.images
        self._method = NAMES[method]
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
        for parameter in bounded.parameters()
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


def peer_loops(subject: Subject, method: str) -> tuple[dict[str, Callable[[], Tensor]], str | None]:
    """auto_LiRPA's loops over the subject's members by name, or the reason why there are none.

    Returns:
        ``{"auto_lirpa": pure backward bounds, "auto_lirpa_default": its default}`` (the same thing for methods without
        backward passes to intermediate layers, hence only the first), and None; or an empty dict and the reason.
    """
    package = auto_lirpa()
    if package is None:
        return {}, f"auto_LiRPA >= {'.'.join(map(str, OLDEST))} is not installed"
    if method not in NAMES:
        return {}, f"auto_LiRPA is not compared on {method}"
    loops: dict[str, Callable[[], Tensor]] = {}
    try:
        for name, sparse in (("auto_lirpa", False), ("auto_lirpa_default", True)):
            if method == "crown" or not sparse:
                loop = PeerLoop(package, subject, method=method, sparse=sparse)
                loop.margins(subject.params[:1])
                loops[name] = _bound_to(loop, subject.params)
    except Exception as error:  # foreign code, which must not end a benchmark
        return {}, f"auto_LiRPA failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return loops, None


def _bound_to(loop: PeerLoop, params: Tensor) -> Callable[[], Tensor]:
    return lambda: loop.margins(params)
