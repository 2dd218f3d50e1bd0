"""The arguments of ``certify`` checked and brought into one form, with one sentence for whatever is wrong."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gls_es.basics.suggestions import unknown
from gls_es.certification.attack import AttackOptions
from gls_es.certification.bab import BUDGET, TIMEOUT, Limits
from gls_es.certification.execution import DTYPES, in_single_precision
from gls_es.certification.stages import KNOWN_STAGES, Specification
from gls_es.data.intake import labelled
from gls_es.errors import ConfigError, DataError
from gls_es.network import Network


def taken(source: Any, images: Any, labels: Any, eps: Any) -> tuple[Any, Any, Any]:
    """Images, labels and radius, apart and as tensors where they were given in another form.

    Args:
        source: as for :func:`resolve_network`; a module says which order of axes it takes.
        images: as given to ``certify``.
        labels: likewise; the radius, where images and labels are in one.
        eps: likewise.
    """
    if eps is None and isinstance(labels, Real):
        labels, eps = None, labels
    if eps is None:
        raise ConfigError("certify() needs eps, the radius: certify(network, images, labels, 0.1)")
    if labels is not None and not isinstance(images, np.ndarray):
        return images, labels, eps
    if isinstance(images, Tensor):
        raise DataError("images come without labels: certify(network, images, labels, eps)")
    return *labelled(images, labels, takes=partial(_takes, source)), eps


@torch.no_grad()
def _takes(source: Any, batch: Tensor) -> bool:
    """Whether a network takes a batch of one image; a checkpoint's says so later."""
    shape = getattr(source, "input_shape", None) or getattr(getattr(source, "network", None), "input_shape", None)
    if shape is not None or not isinstance(source, nn.Module):
        return shape is None or tuple(batch.shape[1:]) == tuple(shape)
    try:
        found = copy.deepcopy(source).cpu().eval()(batch)
    except Exception:  # whatever a module raises on a shape that it was not made for
        return False
    return isinstance(found, Tensor) and found.ndim == 2


def resolve_network(source: Any, images: Any) -> tuple[Network, str | None]:
    """The network to certify, and the digest of its checkpoint if it comes from one.

    Args:
        source: a Network, an nn.Module (its input shape is that of the images), the path of a checkpoint, or what
            ``load_trained`` made of it; the path of an ONNX file, or what has a network and a digest.
        images: as given to ``certify``.
    """
    if isinstance(source, Network):
        return source, None
    if isinstance(source, nn.Module):
        if not isinstance(images, Tensor) or images.dim() < 2:
            raise DataError("images must be a tensor (n, *input_shape), from which the module's input shape is read")
        return Network(source, tuple(images.shape[1:])), None
    if isinstance(source, str | Path) and Path(source).suffix.lower() == ".onnx":
        from gls_es.formats import load_onnx

        source = load_onnx(source)
    if isinstance(source, str | Path):
        from gls_es.training import load_trained  # loads EvoTorch, which nothing else here needs

        source = load_trained(source)
    if isinstance(getattr(source, "network", None), Network):  # a gls_es.training.Trained
        return source.network, str(source.digest)
    raise ConfigError(
        f"certify() takes a gls_es.Network, an nn.Module or the path of a checkpoint, not {type(source).__name__}"
    )


def specify(
    network: Network,
    eps: Any,
    *,
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
        raise ConfigError(f"clip must be True or False, not {clip!r}")
    if not (attack is None or isinstance(attack, AttackOptions)):
        raise ConfigError(f"attack must be an AttackOptions, not {type(attack).__name__}")
    if not isinstance(execution, str) or execution not in DTYPES:
        raise ConfigError(f"execution must be one of {', '.join(DTYPES)}, not {execution!r}")
    return Specification(
        network=in_single_precision(network) if execution == "float32" else network,
        eps=check_eps(eps),
        clip=clip,
        execution=execution,
        stages=check_stages(stages),
        seed=check_count("seed", seed, least=0),
        attack=attack or AttackOptions(),
        device=check_device(device, network),
        limits=limits,
    )


def check_images(images: Any, network: Network, *, clip: bool) -> Tensor:
    """The images as float32; every value must be exactly representable, since the certificate is about the values."""
    if not isinstance(images, Tensor):
        raise DataError(f"images must be a torch.Tensor, not {type(images).__name__}")
    if not images.is_floating_point():
        raise DataError(f"images must be floating-point numbers in [0, 1], not {images.dtype}; divide bytes by 255")
    if images.dim() != len(network.input_shape) + 1 or tuple(images.shape[1:]) != tuple(network.input_shape):
        wanted = ", ".join(str(size) for size in network.input_shape)
        raise DataError(f"images must have the shape (n, {wanted}), not {tuple(images.shape)}")
    if len(images) == 0:
        raise DataError("there is no image to certify; give at least one")
    values = images.detach().to(torch.float32)
    bad = ~images.isfinite() | ((images < 0) | (images > 1) if clip else torch.zeros_like(images, dtype=torch.bool))
    _refuse_rows(bad, "holds a value that is not a finite number" + (" in [0, 1]" if clip else ""))
    _refuse_rows(values.to(images.dtype) != images, "holds a value that float32 cannot represent; give images.float()")
    return values


def check_labels(labels: Any, *, n: int, num_classes: int) -> Tensor:
    """The labels as int64, (n,), each in 0 .. K-1."""
    if not isinstance(labels, Tensor):
        try:
            labels = torch.tensor(labels)
        except (TypeError, ValueError, RuntimeError):
            raise DataError(
                f"labels must be a tensor or a list of whole numbers, not {type(labels).__name__}"
            ) from None
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise DataError(f"labels must be whole numbers, not {labels.dtype}")
    if tuple(labels.shape) != (n,):
        raise DataError(f"labels must have the shape ({n},), one per image, not {tuple(labels.shape)}")
    values: Tensor = labels.detach().to(torch.int64)
    _refuse_rows((values < 0) | (values >= num_classes), f"has a label outside 0 .. {num_classes - 1}")
    return values


def check_eps(eps: Any) -> float:
    """The radius as a float in [0, 1]."""
    value: Any = eps
    if isinstance(eps, bool) or not isinstance(eps, Real) or not 0 <= value <= 1:
        raise ConfigError(f"eps must be a number in [0, 1], in pixel units before normalisation, not {eps!r}")
    return float(value)


def check_stages(stages: Any) -> tuple[str, ...]:
    """The names of the cascade, each known and given once."""
    if not isinstance(stages, Iterable) or isinstance(stages, str):
        raise ConfigError(f"stages must be a sequence of names, ('attack', 'ibp') say, not {stages!r}")
    names = tuple(stages)
    for name in names:
        if not isinstance(name, str) or name not in KNOWN_STAGES:
            raise unknown(name, KNOWN_STAGES, "there is no stage", offer="choose among")
        if names.count(name) > 1:
            raise ConfigError(f"stages: {name!r} is given twice")
    return names


def check_count(name: str, value: Any, *, least: int) -> int:
    """A whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return value


def check_limits(timeout: Any, max_domains: Any, budget: Any) -> Limits:
    """The limits of the search; by default ``TIMEOUT``, or no limit of seconds if the number of parts has one."""
    parts = None if max_domains is None else check_count("max_domains", max_domains, least=1)
    memory = BUDGET if budget is None else check_count("budget", budget, least=2**20)
    if timeout is None:
        return Limits(TIMEOUT if parts is None else None, parts, memory)
    if isinstance(timeout, bool) or not isinstance(timeout, Real) or not 0 < float(timeout) < math.inf:
        raise ConfigError(f"timeout must be a positive number of seconds for an image, not {timeout!r}")
    return Limits(float(timeout), parts, memory)


def check_device(device: Any, network: Network) -> torch.device:
    """The device to compute on; None is where the network's weights are."""
    if device is None:
        return network.parameter_vector().device
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError):
        raise ConfigError(f"device {device!r} does not exist here; use cpu, or a GPU that PyTorch finds") from None
    return found


def _refuse_rows(bad: Tensor, complaint: str) -> None:
    rows = bad.reshape(len(bad), -1).any(dim=1).nonzero().flatten().tolist()
    if rows:
        others = f", as do {len(rows) - 1} others" if len(rows) > 1 else ""
        raise DataError(f"image {rows[0]} {complaint}{others}")
