"""``gls-es certify``: which held-out images keep their class on the whole of their ball."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gls_es.errors import ConfigError

from .options import BYTES, CHECKPOINT, DURATION, EPS, NAMES, config_option, output_options, problem_option
from .progress import image_progress
from .selection import check_selection, check_targets, chosen_images, given_options, image_options
from .session import Session

_WITH_VNNLIB = frozenset({"path", "problem", "data", "execution", "timeout", "seed", "vnnlib", "result"})


@click.command()
@click.argument("path", metavar="CHECKPOINT", type=CHECKPOINT)
@problem_option("Whose images; needed for .onnx, .safetensors, and problems in files.")
@click.option("--eps", type=EPS, multiple=True, help="Radius in pixel units, 0.1 or 8/255; repeatable; default stored.")
@image_options
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.jsonl",
    help="Records, for several radii a file each; a file of the same run is continued.",
)
@click.option(
    "--radius",
    is_flag=True,
    help="Find each image's largest certified radius, without branch and bound unless --stages names bab.",
)
@click.option("--tolerance", type=EPS, help="Of --radius: the step of the radii tried; by default 1/1024.")
@click.option("--largest", type=EPS, help="Of --radius: where to end; by default 0.5.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png|svg",
    help="Draw accuracies against the radius (several --eps, or --radius).",
)
@click.option("--stages", type=NAMES, metavar="A,B,...", help="What to run, in this order: attack,ibp,crown say.")
@click.option("--timeout", type=DURATION, help="Of the search, for each image: 2, 20s or 1m, say.")
@click.option("--budget", type=BYTES, help="Memory that the search for bounds may use, 512M or 2G say.")
@click.option(
    "--execution", metavar="float32|float64|real", help="Arithmetic whose results are certified; by default float32."
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Images worked on at once.")
@click.option("--attack-steps", type=click.IntRange(min=1), help="Steps of every attack.")
@click.option("--attack-restarts", type=click.IntRange(min=1), help="Starts of every attack.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of the attack's starts.")
@click.option("--device", help="Where to compute: cpu, cuda, ...; by default cpu.")
@click.option("--output", metavar="NAME", help="Of an .onnx file with several outputs: the one with the logits.")
@click.option(
    "--vnnlib",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Decide this specification instead: sat, unsat, unknown or timeout.",
)
@click.option(
    "--result", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Of --vnnlib: VNN-COMP's result."
)
@config_option()
@output_options
@click.pass_context
def certify(ctx: click.Context, /, path: Path, **options: Any) -> None:
    """Certify the network in CHECKPOINT (a file, or zoo:NAME), or in a .safetensors or .onnx file, on held-out images.

    An image is certified if no point within eps of it (and in [0, 1]) is classified otherwise, falsified if such a
    point was found, and unknown if neither could be shown.
    """
    session = ctx.ensure_object(Session)
    _check_combination(ctx, path, options)
    from .output import note_left_out, note_reader, note_unfinished, prepare_libraries

    prepare_libraries(session)
    if options["vnnlib"] is not None:
        from .specification import decide_specification

        decide_specification(session, path, options["vnnlib"], options)
        return
    from .subject import load_subject

    subject = load_subject(path, problem=options["problem"], data=options["data"], output=options["output"])
    images, labels, chosen = chosen_images(subject, options)
    about = {"problem": subject.problem_name, **chosen, "path": str(path)}
    if "trained until" in subject.about:
        about["trained_until"] = subject.about["trained until"]
        note_unfinished(session, about["trained_until"])
    if "compared" in subject.about:
        about["compared"] = subject.about["compared"]
        note_reader(session, about["compared"])
    left_out = subject.about.get("left_out") or subject.source.network.left_out
    if left_out is not None:
        about["left_out"] = left_out
        note_left_out(session, left_out)
    work = _radii if options["radius"] else _balls
    work(session, subject, images, labels, about, options)


def _check_combination(ctx: click.Context, path: Path, options: dict[str, Any]) -> None:
    """Refuse what does not go together, before anything is loaded."""
    given = given_options(ctx)
    if options["vnnlib"] is not None:
        others = [option for name, option in given.items() if name not in _WITH_VNNLIB]
        if others:
            raise ConfigError(f"--vnnlib says what is certified, so {', '.join(others)} does not go with it.")
    elif options["result"] is not None:
        raise ConfigError("--result is the result file of a specification; give --vnnlib FILE, or --out for records.")
    check_selection(ctx, options)
    if options["radius"] and options["eps"]:
        raise ConfigError("--radius finds each image's own radius, so --eps does not go with it; leave one out.")
    if not options["radius"] and (options["tolerance"] is not None or options["largest"] is not None):
        raise ConfigError("--tolerance and --largest belong to --radius; give it, too.")
    if len(set(options["eps"])) < len(options["eps"]):
        raise ConfigError("--eps: a radius is given twice.")
    check_targets(options, "out", "plot", "result", read=[path, options["vnnlib"]])
    if options["plot"] is not None and not options["radius"] and len(options["eps"]) < 2:
        raise ConfigError("--plot draws accuracies against the radius; give several --eps, or --radius.")


def _balls(session: Session, subject: Any, images: Any, labels: Any, about: dict[str, Any], options: Any) -> None:
    """Certify at one radius or several, each with its own records and its own object."""
    from gls_es import certification
    from gls_es.certification.curves import Curve

    from .output import messages, print_json, show
    from .summaries import overview, radius_tables

    radii = options["eps"] or (subject.eps,)
    reports = []
    for eps in radii:
        label = f"eps {eps:.4g}" if len(radii) > 1 else ""
        out = options["out"] if len(radii) == 1 else _records(options["out"], eps)
        with image_progress(messages(session), session, label) as progress:
            arguments = {"records": out, "progress": progress, **_arguments(options), **_region(subject, eps)}
            reports.append(certification.certify(subject.source, images, labels, **arguments))
    summaries = [{**report.to_json(), **about} for report in reports]
    if options["plot"] is not None:
        _plot(session, Curve.of_reports(reports), options["plot"], about)
    if session.json:
        print_json(summaries[0] if len(radii) == 1 else {"radii": summaries, **about})
        return
    where = _where(about)
    parts = radius_tables(summaries[0], where) if len(radii) == 1 else overview(summaries, where)
    show(*parts)


def _radii(session: Session, subject: Any, images: Any, labels: Any, about: dict[str, Any], options: Any) -> None:
    """Find each image's radius."""
    from gls_es import certification
    from gls_es.certification.curves import Curve

    from .output import messages, print_json, show
    from .summaries import radii_tables

    subject.needs_plain("--radius")
    grid = _given({"tolerance": options["tolerance"], "largest": options["largest"]})
    with image_progress(messages(session), session) as progress:
        report = certification.certified_radii(
            subject.source,
            images,
            labels,
            records=options["out"],
            progress=progress,
            **grid,
            **_arguments(options),
        )
    summary = {**report.to_json(), **about}
    if options["plot"] is not None:
        _plot(session, Curve.of_radii(report), options["plot"], about)
    if session.json:
        print_json(summary)
        return
    show(*radii_tables(summary, _where(about)))


def _region(subject: Any, eps: float) -> dict[str, Any]:
    """The regions that the problem is about, with ``eps`` for their largest radius."""
    shape = subject.problem.perturbation
    return {"eps": eps} if shape.plain else {"eps": shape.radii(eps), "norm": shape.norm}


def _arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """What ``gls_es.certify`` is given besides images, radius and records."""
    from gls_es import certification

    attack = _given({"steps": options["attack_steps"], "restarts": options["attack_restarts"]})
    names = ("stages", "timeout", "budget", "execution", "batch_size", "device")
    given = _given({name: options[name] for name in names})
    return {"seed": options["seed"], "attack": certification.AttackOptions(**attack), **given}


def _records(out: Path | None, eps: float) -> Path | None:
    """One file for each radius: verdicts.jsonl becomes verdicts.eps-0.1.jsonl."""
    return None if out is None else out.with_name(f"{out.stem}.eps-{eps!r}{out.suffix}")


def _plot(session: Session, curve: Any, path: Path, about: Mapping[str, Any]) -> None:
    from gls_es.certification.curves import save_curve

    from .output import messages

    save_curve(curve, path, title=f"{about['problem']}, {Path(about['path']).name}")
    messages(session).print(f"plot: {path}", soft_wrap=True)


def _where(about: Mapping[str, Any]) -> str:
    """The images, in words."""
    if "start" in about:
        return f"from number {about['start']}"
    return f"({', '.join(map(str, about['indices'][:5]))}{', ...' if len(about['indices']) > 5 else ''})"


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given; the library's own defaults hold for the others."""
    return {name: value for name, value in options.items() if value is not None}
