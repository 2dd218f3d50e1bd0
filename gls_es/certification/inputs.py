"""The arguments of ``certify`` checked and brought into one form, with one sentence for whatever is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import combinations
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gls_es.basics.checks import (
    as_real,
    class_labels,
    dense_numbers,
    existing_device,
    is_plain,
    seed_number,
    shown,
    whole_number,
)
from gls_es.basics.modes import usable
from gls_es.basics.suggestions import unknown
from gls_es.bounds import METHODS, perturbation_of
from gls_es.bounds.perturbation import split_radii
from gls_es.certification.attack import AttackOptions
from gls_es.certification.bab import BUDGET, TIMEOUT, Limits
from gls_es.certification.execution import DTYPES, in_precision
from gls_es.certification.stages import KNOWN_STAGES, ROUND_STAGES, STAGES, Specification
from gls_es.certification.telling import line_teller
from gls_es.data.intake import forms_of, holds_labels, labelled
from gls_es.errors import ConfigError, DataError
from gls_es.network import Network
from gls_es.network.copies import true_copy


def opened(source: Any) -> Any:
    """What a path leads to: a network of an ONNX file, or a trained one; anything else as it is."""
    if isinstance(source, str | Path) and str(source).lower().endswith((".onnx", ".onnx.gz")):
        from gls_es.formats import load_onnx

        return load_onnx(source, classifier=True)
    if isinstance(source, str | Path):
        from gls_es.training import load_trained  # loads EvoTorch, which nothing else here needs

        return load_trained(source)
    return source


def taken(source: Any, images: Any, labels: Any, eps: Any) -> tuple[Any, Any, Any]:
    """Images, labels and radius, apart and as tensors where they were given in another form.

    Args:
        source: as for :func:`resolve_network`, opened; it says which order of axes it takes.
        images: as given to ``certify``.
        labels: likewise; the radius, whatever it is given as, where images and labels are in one.
        eps: likewise.
    """
    if eps is None and labels is not None and (isinstance(labels, Real | str) or holds_labels(images)):
        labels, eps = None, labels
    if eps is None:
        raise ConfigError("certify() needs eps, the radius: certify(network, images, labels, 0.1)")
    takes = partial(_takes, source)
    if labels is not None and isinstance(images, Tensor):
        return _arranged(images, takes), labels, eps
    if isinstance(images, Tensor):
        raise DataError("images come without labels: certify(network, images, labels, eps)")
    if labels is not None and not isinstance(images, np.ndarray | list | tuple):
        raise DataError(f"images must be a tensor, an array or a list of them, not {type(images).__name__}")
    return *labelled(images, labels, takes=takes), eps


def _arranged(images: Tensor, takes: Callable[[Tensor], bool]) -> Tensor:
    """Images (n, C, H, W), from (n, H, W) or channels last where only that is what the network takes; others stay."""
    if not is_plain(images) or images.ndim not in (3, 4) or len(images) == 0 or not images.is_floating_point():
        return images
    return next((form for form in forms_of(images) if takes(form[:1].float())), images)


@torch.no_grad()
def _takes(source: Any, batch: Tensor) -> bool:
    """Whether a network takes a batch of one image."""
    shape = getattr(source, "input_shape", None) or getattr(getattr(source, "network", None), "input_shape", None)
    if shape is not None or not isinstance(source, nn.Module):
        return shape is None or tuple(batch.shape[1:]) == tuple(shape)
    try:
        found = true_copy(source).cpu().eval()(batch)
    except Exception:  # whatever a module raises on a shape that it was not made for
        return False
    return isinstance(found, Tensor) and found.ndim == 2


def resolve_network(source: Any, images: Any, *, execution: Any) -> tuple[Network, str | None]:
    """The network to certify, and the digest of its checkpoint if it comes from one.

    Args:
        source: a Network, an nn.Module (its input shape is that of the images), the path of a checkpoint, or what
            ``load_trained`` made of it; the path of an ONNX file, or what has a network and a digest.
        images: as given to ``certify``.
        execution: likewise; None for its default.
    """
    if isinstance(source, Network):
        return source, None
    if isinstance(source, nn.Module):
        if dense_numbers("images", images, error=DataError).dim() < 2:
            raise DataError("images must be a tensor (n, *input_shape), from which the module's input shape is read")
        return Network(source, tuple(images.shape[1:])), None
    source = opened(source)
    if execution in ("float32", None) and getattr(source, "execution", None) == "float64":
        raise ConfigError(
            "the network in the file computes in float64, and no certificate for float32 is about it; "
            "give execution='float64' (--execution float64)"
        )
    if isinstance(getattr(source, "network", None), Network):  # a gls_es.training.Trained
        return source.network, str(source.digest)
    raise ConfigError(
        f"certify() takes a gls_es.Network, an nn.Module or the path of a checkpoint, not {type(source).__name__}"
    )


def specify(
    network: Network,
    eps: Any,
    *,
    norm: Any,
    clip: Any,
    execution: Any,
    stages: Any,
    seed: Any,
    attack: Any,
    device: Any,
    limits: Limits,
) -> Specification:
    """The options of ``certify``, checked."""
    if not isinstance(clip, bool):
        raise ConfigError(f"clip must be True or False, not {shown(clip)}")
    if not (attack is None or isinstance(attack, AttackOptions)):
        raise ConfigError(f"attack must be an AttackOptions, not {type(attack).__name__}")
    if not isinstance(execution, str) or execution not in DTYPES:
        raise ConfigError(f"execution must be one of {', '.join(DTYPES)}, not {shown(execution)}")
    largest, pixels = split_radii(eps, network.input_shape, norm=norm)
    perturbation_of(eps, norm, network.input_shape)  # refuses what does not go together
    where = check_device(device, network)
    return Specification(
        network=in_precision(network, DTYPES[execution]),
        eps=largest,
        norm=norm,
        pixels=None if pixels is None else pixels.to(where),
        clip=clip,
        execution=execution,
        stages=_stages(stages, norm),
        seed=seed_number(seed),
        attack=attack or AttackOptions(),
        device=where,
        limits=limits,
    )


def _stages(stages: Any, norm: str) -> tuple[str, ...]:
    """The names of the cascade; L2 balls have fewer, which are the default there."""
    names = check_stages(stages)
    if norm == "linf":
        return names
    if names == STAGES:
        return ROUND_STAGES
    wrong = [name for name in names if name not in ROUND_STAGES]
    if wrong:
        raise ConfigError(f"stages: {wrong[0]!r} knows no L2 balls; choose among {', '.join(ROUND_STAGES)}.")
    return names


def check_images(images: Any, network: Network, *, clip: bool) -> Tensor:
    """The images as float32; every value must be exactly representable, since the certificate is about the values."""
    images = dense_numbers("images", images, error=DataError)
    if images.dim() != len(network.input_shape) + 1 or tuple(images.shape[1:]) != tuple(network.input_shape):
        wanted = ", ".join(str(size) for size in network.input_shape)
        raise DataError(f"images must have the shape (n, {wanted}), not {tuple(images.shape)}")
    if len(images) == 0:
        raise DataError("there is no image to certify; give at least one")
    values: Tensor = images.detach().to(torch.float32, memory_format=torch.contiguous_format)
    bad = ~images.isfinite() | ((images < 0) | (images > 1) if clip else torch.zeros_like(images, dtype=torch.bool))
    _refuse_rows(bad, "holds a value that is not a finite number" + (" in [0, 1]" if clip else ""))
    _refuse_rows(values.to(images.dtype) != images, "holds a value that float32 cannot represent; give images.float()")
    return usable(values)


def check_labels(labels: Any, *, n: int, num_classes: int) -> Tensor:
    """The labels as int64 on the CPU, (n,), each in 0 .. K-1."""
    return class_labels(labels, count=n, num_classes=num_classes, device=torch.device("cpu"), error=DataError)


def check_stages(stages: Any) -> tuple[str, ...]:
    """The names of the cascade, each known and given once."""
    if not isinstance(stages, Iterable) or isinstance(stages, str):
        raise ConfigError(f"stages must be a sequence of names, ('attack', 'ibp') say, not {shown(stages)}")
    names = tuple(stages)
    for name in names:
        if not isinstance(name, str) or name not in KNOWN_STAGES:
            raise unknown(name, KNOWN_STAGES, "there is no stage", offer="choose among")
        if names.count(name) > 1:
            raise ConfigError(f"stages: {name!r} is given twice")
    alike = [(a, b) for a, b in combinations(names, 2) if METHODS.get(a, a) is METHODS.get(b, b)]
    if alike:
        raise ConfigError("stages: {!r} and {!r} are two names of one relaxation; give one of them".format(*alike[0]))
    return names


def check_limits(timeout: Any, max_domains: Any, budget: Any) -> Limits:
    """The limits of the search; by default ``TIMEOUT``, or no limit of seconds if the number of parts has one."""
    parts = None if max_domains is None else whole_number("max_domains", max_domains, least=1)
    memory = BUDGET if budget is None else whole_number("budget", budget, least=2**20)
    if timeout is None:
        return Limits(TIMEOUT if parts is None else None, parts, memory)
    return Limits(check_seconds(timeout), parts, memory)


def check_seconds(timeout: Any) -> float:
    """A limit of time."""
    seconds = as_real(timeout)
    if seconds is None or not 0 < seconds < math.inf:
        raise ConfigError(f"timeout must be a positive number of seconds, not {shown(timeout)}; None sets the default")
    return seconds


def check_device(device: Any, network: Network) -> torch.device:
    """The device to compute on; None is where the network's weights are."""
    return network.parameter_vector().device if device is None else existing_device(device)


def check_records(records: Any, progress: Any) -> Callable[..., None] | None:
    """Where verdicts go, and who is told of them: whom to call; for True lines on standard error."""
    if not (records is None or isinstance(records, str | Path)):
        raise ConfigError(f"records must be the path of a file, not {type(records).__name__}")
    if "\0" in str(records):
        raise ConfigError(f"records: {str(records)!r} is no path, since it holds a zero byte")
    if isinstance(progress, bool):
        return line_teller() if progress else None
    if not (progress is None or callable(progress)):
        raise ConfigError(f"progress must be True or something to call, not {type(progress).__name__}")
    told: Callable[..., None] | None = progress
    return told


def _refuse_rows(bad: Tensor, complaint: str) -> None:
    rows = bad.reshape(len(bad), -1).any(dim=1).nonzero().flatten().tolist()
    if rows:
        others = f", as do {len(rows) - 1} others" if len(rows) > 1 else ""
        raise DataError(f"image {rows[0]} {complaint}{others}")
