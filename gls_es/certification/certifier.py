"""Certification of a set of images for one radius: a cascade of stages, cheapest first, on fixed batches.

Batches are fixed slices of the images and every random number depends on the seed and the image alone, so a run that
was killed and resumed from its records reaches the same verdicts as one that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gls_es.basics.checks import whole_number
from gls_es.basics.modes import ordinary_modes
from gls_es.certification import inputs
from gls_es.certification.attack import AttackOptions
from gls_es.certification.batching import default_batch_size
from gls_es.certification.cascade import Cascade
from gls_es.certification.execution import direct_sums, refuse_autocast
from gls_es.certification.identity import run_identity
from gls_es.certification.records import RecordWriter
from gls_es.certification.report import CertificationReport, Verdict, count_verdicts
from gls_es.certification.stages import STAGES, Specification
from gls_es.network import Network

if TYPE_CHECKING:
    from gls_es.training import Trained

Progress = Callable[[int, int, dict[str, int]], None]


@ordinary_modes()
def certify(
    network_or_checkpoint: Network | nn.Module | Trained | str | Path,
    images: Any,
    labels: Tensor | Sequence[int] | float | None = None,
    eps: Any = None,
    *,
    norm: str = "linf",
    stages: Sequence[str] = STAGES,
    execution: str = "float32",
    batch_size: int | None = None,
    seed: int = 0,
    clip: bool = True,
    device: str | torch.device | None = None,
    timeout: float | None = None,
    max_domains: int | None = None,
    budget: int | None = None,
    attack: AttackOptions | None = None,
    records: str | Path | None = None,
    progress: Progress | bool | None = None,
) -> CertificationReport:
    """Decide for every image whether all of its L∞ ball is classified as labelled.

    Args:
        network_or_checkpoint: a Network, an nn.Module, the path of a checkpoint or ONNX file, or what a loader made.
        images: (n, *input_shape), floating, in [0, 1] if ``clip``; normalisation belongs into the network. Or arrays;
            or, without ``labels``, what :func:`gls_es.data.intake.as_split` takes: ``certify(module, loader, 0.1)``.
        labels: (n,), whole numbers.
        eps: radius in pixel units, in [0, 1]; also a text as "8/255", or radii per channel or pixel. The attack stays
            within exactly this, the bounds cover one step of float64 more.
        norm: "linf", or "l2" for Euclidean balls, with fewer stages.
        stages: what to run after the clean check, in this order: names of ``stages.KNOWN_STAGES``.
        execution: "float32" or "float64", executed in that format with direct sums in any order, or "real" arithmetic.
        batch_size: images worked on at once; by default what ``batching.default_batch_size`` finds.
        seed: of the attack's random starts.
        clip: whether the ball is cut off at 0 and 1.
        device: where to compute; by default where the network is.
        timeout: seconds that the stages may spend on an image; by default 20, or no limit if ``max_domains`` is given.
        max_domains: parts that branch and bound may split an image's ball into.
        budget: bytes that optimised slopes and branch and bound may use, at least 2**20; by default 2**30.
        attack: the attack's options.
        records: a JSON Lines file that receives each verdict as it is reached; a file of the same run is resumed.
        progress: called after each batch with images done, images in all, and images per verdict; True writes lines.

    Raises:
        ConfigError, DataError: an option makes no sense; images or labels do not, or the records are of another run.
        CheckpointError, UnsupportedNetworkError: the checkpoint, or what the module holds, cannot be used.
    """
    refuse_autocast()
    source = inputs.opened(network_or_checkpoint)
    images, labels, eps = inputs.taken(source, images, labels, eps)
    network, checkpoint = inputs.resolve_network(source, images, execution=execution)
    lim = inputs.check_limits(timeout, max_domains, budget)
    given: dict[str, Any] = {"execution": execution, "stages": stages, "seed": seed, "attack": attack, "device": device}
    spec = inputs.specify(network, eps, norm=norm, clip=clip, limits=lim, **given)
    x = inputs.check_images(images, network, clip=clip)
    y = inputs.check_labels(labels, n=len(x), num_classes=network.num_classes)
    chosen = default_batch_size(spec) if batch_size is None else whole_number("batch_size", batch_size, least=1)
    told = inputs.check_records(records, progress)
    identity = run_identity(spec, x, y, batch_size=chosen, checkpoint=checkpoint)
    return _report(spec, _run(spec, x, y, identity, records, told), identity)


def _run(
    spec: Specification,
    images: Tensor,
    labels: Tensor,
    identity: dict[str, Any],
    records: str | Path | None,
    progress: Progress | None,
) -> tuple[Verdict, ...]:
    """The verdicts, with the file of records open and the execution set that they are about."""
    with ExitStack() as stack:
        stack.enter_context(direct_sums(spec.device))
        writer = None if records is None else stack.enter_context(closing(RecordWriter(Path(records), identity)))
        return _decide(spec, images, labels, batch_size=identity["batch_size"], writer=writer, progress=progress)


def _decide(
    spec: Specification,
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int,
    writer: RecordWriter | None,
    progress: Progress | None,
) -> tuple[Verdict, ...]:
    """The verdicts in order; batches that are fully recorded are skipped, others redone as a whole."""
    cascade = Cascade(spec)
    known: dict[int, Verdict] = {} if writer is None else dict(writer.verdicts)
    for start in range(0, len(images), batch_size):
        batch = list(range(start, min(start + batch_size, len(images))))
        missing = {index for index in batch if index not in known}
        if missing:
            decided = cascade.decide(batch, images[batch], labels[batch])
            fresh = [verdict for verdict in decided if verdict.index in missing]
            if writer is not None:
                writer.write(fresh)
            known.update({verdict.index: verdict for verdict in fresh})
        if progress is not None:
            done = [known[index] for index in range(batch[-1] + 1)]
            progress(len(done), len(images), count_verdicts(done))
    return tuple(known[index] for index in range(len(images)))


def _report(spec: Specification, verdicts: tuple[Verdict, ...], identity: dict[str, Any]) -> CertificationReport:
    return CertificationReport(
        verdicts=verdicts,
        eps=spec.eps,
        stage_names=spec.stages,
        execution=spec.execution,
        clip=spec.clip,
        checkpoint=identity["checkpoint"],
        network=identity["network"],
        versions=identity["versions"],
        norm=spec.norm,
        radii=identity.get("radii"),
    )
