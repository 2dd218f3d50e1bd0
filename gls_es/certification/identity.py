"""What a certification run is about, as plain values: two runs with equal identity may share one file of records."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from gls_es.basics.version import versions
from gls_es.certification.report import float32_bytes
from gls_es.certification.stages import Specification
from gls_es.network import Network

DIGEST = 2
"""Kind of :func:`network_digest`. The first, not written into records, covered a module's repr and state_dict only."""


def run_identity(
    spec: Specification, images: Tensor, labels: Tensor, *, batch_size: int, checkpoint: str | None
) -> dict[str, Any]:
    """Everything that the verdicts depend on; the header of a file of records.

    The batch size is part of it: sums of another batch size may round differently, and lead to another counterexample.

    Args:
        spec: what is certified and how.
        images: (n, *input_shape), float32.
        labels: (n,).
        batch_size: images worked on at once.
        checkpoint: digest of the checkpoint, if the network comes from one.
    """
    options = asdict(spec.attack)
    shape = {} if spec.norm == "linf" else {"norm": spec.norm}
    if spec.pixels is not None:
        shape["radii"] = radii_digest(spec.pixels, spec.network.input_shape)
    return {
        "eps": spec.eps,
        **shape,
        "clip": spec.clip,
        "execution": spec.execution,
        "checkpoint": checkpoint,
        "network": network_digest(spec.network),
        "network_digest": DIGEST,
        "data": data_digest(images, labels),
        "n": len(images),
        "stages": list(spec.stages),
        "batch_size": batch_size,
        "seed": spec.seed,
        "limits": asdict(spec.limits),
        "attack": {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()},
        "device": spec.device.type,
        "versions": versions(),
    }


def network_digest(network: Network) -> str:
    """SHA-256 of all that the network computes with.

    That is every operator that was seen to run with its geometry, all constants whatever they were in the module
    (buffers, persistent or not, plain attributes, numbers in the code), all parameters, and all buffers.
    """
    module = network.module()
    digest = hashlib.sha256(f"{DIGEST} {network.input_shape}".encode())
    for node in network.steps.nodes:
        digest.update(f"{node!r}\n".encode())
    tensors = [*sorted(network.constants().items()), *module.named_parameters(), *module.named_buffers()]
    for name, tensor in tensors:
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def radii_digest(pixels: Tensor, shape: tuple[int, ...]) -> str:
    """SHA-256 of every pixel's radius, float64."""
    values = pixels.detach().cpu().double().expand(shape).contiguous()
    return hashlib.sha256(f"{shape}".encode() + values.numpy().astype("<f8").tobytes()).hexdigest()


def data_digest(images: Tensor, labels: Tensor) -> str:
    """SHA-256 of the images' float32 values, their shape, and the labels."""
    digest = hashlib.sha256(f"{tuple(images.shape)}".encode())
    digest.update(float32_bytes(images))
    digest.update(labels.cpu().to(torch.int64).numpy().astype("<i8").tobytes())
    return digest.hexdigest()
