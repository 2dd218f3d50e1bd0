"""What a command is about: the network in a file, and the problem whose images it classifies."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gls_es.errors import ConfigError, DataError


@dataclass(frozen=True)
class Subject:
    """A network from a checkpoint, a safetensors file or an ONNX file.

    Attributes:
        source: what ``gls_es.certify`` takes; it has ``network`` and ``digest``.
        problem_name: whose images it classifies.
        eps: the radius to certify by default.
        problem: the problem itself.
        dataset: gives the dataset, from a folder or where the problem finds it.
        about: what else is known, for model cards.
    """

    source: Any
    problem_name: str
    eps: float
    problem: Any
    dataset: Callable[[Path | None], Any]
    about: dict[str, Any]

    def needs_plain(self, what: str) -> None:
        """Refuse a problem with radii of pixels or L2 balls for what knows L∞ balls with one radius only."""
        if not self.problem.perturbation.plain:
            raise ConfigError(
                f"{what} knows L∞ balls with one radius for all pixels, and problem {self.problem_name!r} has others."
            )

    def shaped(self, images: Any, labels: Any) -> tuple[Any, Any]:
        """Images in the network's input shape, and their labels: as they are, channels last, or flat, row by row."""
        wanted, shape = tuple(self.source.network.input_shape), tuple(images.shape[1:])
        long, given = ([n for n in sizes if n != 1] for sizes in (wanted, shape))  # axes of one value move nothing
        if wanted == shape:
            return images, labels
        if wanted == (*shape[1:], shape[0]):
            return images.permute(0, *range(2, images.ndim), 1).contiguous(), labels
        if long == given or long == [math.prod(shape)]:
            return images.reshape(len(images), *wanted), labels
        raise DataError(
            f"the network reads inputs of shape {wanted}, and the images of problem {self.problem_name!r} "
            f"have shape {shape}."
        )


def load_subject(path: Path, *, problem: str | None, data: Path | None, output: str | None = None) -> Subject:
    """The network in a file, whose kind its ending says.

    Args:
        path: a checkpoint, or a file that ends in .onnx or .safetensors.
        problem: as in ``--problem``; needed for files that do not name theirs.
        data: folder of the datasets.
        output: of an .onnx file with several outputs, the one with the logits.
    """
    kind = path.with_suffix("").suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if output is not None and kind != ".onnx":
        raise ConfigError(f"--output chooses one of an .onnx file's outputs, and {path} is no such file; leave it out.")
    if kind not in (".onnx", ".safetensors"):
        from gls_es import training

        trained = training.load_trained(path, problem=problem)
        about = {"trained with the relaxation": trained.method}
        at, end = trained.content.get("generation"), trained.content.get("recipe", {}).get("generations")
        if isinstance(at, int) and isinstance(end, int) and at < end:
            about["trained until"] = f"generation {at} of {end}"
        shape = trained.problem.perturbation
        if not shape.plain:
            about["region"] = "L2 balls" if shape.norm == "l2" else "a radius for each pixel; ε is the largest"
        return Subject(trained, trained.problem_name, trained.eps, trained.problem, trained.dataset, about)
    if problem is None:
        further = ""
        if kind == ".onnx":
            further = f'; or in Python gls_es.certify("{path}", dataset, eps=0.1); or --vnnlib FILE, a specification'
        raise ConfigError(
            f"{path}: a {kind} file does not say what its images are; name it with --problem NAME, or yours with "
            f"--problem file.py:Class (gls-es new writes one){further}."
        )
    from gls_es import formats

    if kind == ".safetensors":
        weights = formats.load_safetensors(path, problem=problem, data_root=data)
        return Subject(weights, problem, weights.eps, weights.problem, weights.dataset, {})
    from gls_es.problem import registry

    model = formats.load_onnx(path, output=output, classifier=True)
    made = registry.resolve(problem)(data_root=None if data is None else str(data))
    return Subject(
        model,
        problem,
        made.eps,
        made,
        lambda _root: made.data,
        {"compared": model.compared, "left_out": model.left_out},
    )
