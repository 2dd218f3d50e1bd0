"""``gls-es export``: a trained network and its specifications in files that other tools read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from gls_es.errors import ConfigError

from .options import CHECKPOINT, DURATION, EPS, config_option, output_options, problem_option
from .selection import check_selection, check_targets, chosen_images, given_options, image_options, numbers_of
from .session import Session

_OF_VNNLIB = ("vnnlib_version", "eps", "split", "start", "limit", "indices", "timeout")
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("path", metavar="CHECKPOINT", type=CHECKPOINT)
@problem_option("Whose images; needed for .onnx, .safetensors, and problems in files.")
@click.option("--onnx", type=_FILE, metavar="FILE.onnx", help="Write the network, and a model card beside it.")
@click.option("--safetensors", type=_FILE, metavar="FILE", help="Write the weights.")
@click.option(
    "--vnnlib",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write a specification for each image, and instances.csv.",
)
@click.option(
    "--vnnlib-version",
    type=click.Choice(["1", "2"]),
    default="1",
    show_default=True,
    help="Version of the language that specifications are written in.",
)
@click.option("--eps", type=EPS, help="Radius of the specifications, 0.1 or 8/255; by default the stored one.")
@click.option(
    "--timeout",
    type=DURATION,
    default=60.0,
    show_default=True,
    help="What instances.csv grants for each image.",
)
@click.option(
    "--records", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Records of certify, for the card."
)
@image_options
@config_option()
@output_options
@click.pass_context
def export(ctx: click.Context, /, path: Path, **options: Any) -> None:
    """Write the network in CHECKPOINT as ONNX or safetensors, and VNN-LIB specifications of its robustness.

    What is written as ONNX is executed by onnxruntime (if it is installed) and has the network's logits, or nothing is
    written. Normalisation is part of the network; pixels lie in [0, 1].
    """
    session = ctx.ensure_object(Session)
    _check_combination(ctx, path, options)
    from .output import messages, prepare_libraries, print_json

    prepare_libraries(session)
    from .subject import load_subject

    subject = load_subject(path, problem=options["problem"], data=options["data"])
    written = _write(subject, path, options)
    if session.json:
        print_json(written)
    else:
        for name in ("onnx", "card", "safetensors", "instances"):
            if written[name] is not None:
                messages(session).print(f"wrote: {written[name]}", soft_wrap=True)
        if written["onnx"] is not None and not written["compared"]:
            messages(session).print("note: onnxruntime is not installed, so the logits were not compared")


def _check_combination(ctx: click.Context, path: Path, options: dict[str, Any]) -> None:
    given = given_options(ctx)
    if not any(options[name] for name in ("onnx", "safetensors", "vnnlib")):
        raise ConfigError("say what to write: --onnx FILE, --safetensors FILE, or --onnx FILE with --vnnlib DIR.")
    if options["vnnlib"] is not None and options["onnx"] is None:
        raise ConfigError("--vnnlib DIR: instances.csv names the network's file; give --onnx FILE, too.")
    stray = [given[name] for name in _OF_VNNLIB if name in given]
    if options["vnnlib"] is None and stray:
        raise ConfigError(f"{', '.join(stray)}: only specifications need it; give --vnnlib DIR, too.")
    if options["records"] is not None and options["onnx"] is None:
        raise ConfigError("--records is for the model card, which is written beside --onnx FILE; give it, too.")
    check_selection(ctx, options)
    check_targets(options, "onnx", "safetensors", "vnnlib", read=[path, options["records"]])


def _write(subject: Any, path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Write all that was asked for; returns what ``--json`` prints."""
    from gls_es import certification, formats
    from gls_es.certification.report import count_verdicts

    if options["vnnlib"] is not None:
        subject.needs_plain("--vnnlib")
    network, digest = subject.source.network, subject.source.digest
    metadata = {"problem": subject.problem_name, "eps": repr(subject.eps), "digest": digest}
    records = None
    if options["records"] is not None:
        header, verdicts = certification.read_records(options["records"])
        records = (header, count_verdicts(verdicts))
    result: dict[str, Any] = dict.fromkeys(("onnx", "card", "safetensors", "instances", "compared"))
    files: list[Path] = []
    source = type(subject.problem).data_source
    card = formats.ModelCard(network, subject.problem_name, source, subject.eps, digest, files, records, subject.about)
    card.check()
    if options["safetensors"] is not None:
        formats.save_safetensors(network, options["safetensors"], metadata=metadata)
        files.append(options["safetensors"])
        result["safetensors"] = str(options["safetensors"])
    if options["onnx"] is not None:
        result["compared"] = formats.save_onnx(network, options["onnx"], metadata=metadata)
        files.append(options["onnx"])
        result["onnx"] = str(options["onnx"])
        beside = options["onnx"].with_name(options["onnx"].name + ".md")
        card.write(beside)
        result["card"] = str(beside)
    if options["vnnlib"] is not None:
        result |= _specifications(subject, options)
    return {**result, "problem": subject.problem_name, "path": str(path), "digest": digest}


def _specifications(subject: Any, options: dict[str, Any]) -> dict[str, Any]:
    """A specification for each image, and the list of instances."""
    from gls_es import formats

    folder: Path = options["vnnlib"]
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--vnnlib {folder}: the folder cannot be made ({error.strerror}).") from error
    images, labels, chosen = chosen_images(subject, options)
    eps = subject.eps if options["eps"] is None else options["eps"]
    network = os.path.relpath(options["onnx"], folder)
    rows = []
    for number, image, label in zip(numbers_of(chosen, len(images)), images, labels.tolist(), strict=True):
        name = f"{subject.problem_name.rpartition(':')[2]}_{number}.vnnlib"
        title = f"{subject.problem_name}, {chosen['split']} image {number}, class {label}, eps {eps!r}"
        text = formats.robustness_vnnlib(
            image, label, eps, subject.source.network.num_classes, title=title, version=int(options["vnnlib_version"])
        )
        formats.write_text(folder / name, text)
        rows.append((network, name, options["timeout"]))
    formats.write_instances(folder / "instances.csv", rows)
    return {"instances": str(folder / "instances.csv"), "n": len(rows), "eps": eps, **chosen}
