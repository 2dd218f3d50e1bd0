"""What this installation is and whether it works: versions, devices, arithmetic, data, optional libraries."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from gls_es import kernels
from gls_es.basics.version import __version__
from gls_es.data import default_root
from gls_es.data.fetch import PLACES
from gls_es.errors import DataError
from gls_es.network import Network

Health = Literal["ok", "note", "broken"]

OPTIONAL = {
    "scipy": "exact linear programs at the end of branch and bound: pip install 'gls-es[verify]'",
    "onnx": "ONNX files: pip install 'gls-es[onnx]'",
    "onnxruntime": "replaying ONNX files: pip install 'gls-es[onnx]'",
    "safetensors": "safetensors files: pip install 'gls-es[safetensors]'",
    "tensorboard": "gls-es train --log tensorboard: pip install 'gls-es[tensorboard]'",
}
"""Libraries that some commands want, and what for."""

FOLDERS = {
    "MNIST": ("MNIST/raw",),
    "Fashion-MNIST": ("FashionMNIST/raw",),
    "CIFAR-10": ("cifar-10-batches-bin", "cifar-10-batches-py"),
    "TinyImageNet": ("tiny-imagenet-200",),
}
"""Where the data sets lie below the data root."""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked at.
        value: what was found.
        health: "broken" if gls-es cannot work so, "note" if something is missing that it can do without.
        advice: what to do about it; empty if nothing.
    """

    name: str
    value: str
    health: Health = "ok"
    advice: str = ""


def examine(data_root: str | Path | None = None) -> list[Finding]:
    """Look at everything; nothing is changed, downloaded or started.

    Args:
        data_root: folder of datasets; None: GLS_ES_DATA, or ./data.
    """
    return [*_versions(), *_machine(), *_arithmetic(), *_optional(), *_data(data_root)]


def _versions() -> list[Finding]:
    found = [Finding("gls-es", __version__), Finding("Python", platform.python_version())]
    for name in ("torch", "evotorch", "ray", "numpy", "click", "rich"):
        try:
            version = importlib.metadata.version(name)
            found.append(Finding(name, torch.__version__ if name == "torch" else version))  # which names its build, too
        except importlib.metadata.PackageNotFoundError:
            found.append(Finding(name, "not installed", "broken", "pip install gls-es"))
    return [*found, _torchvision(), _evotorch()]


def _torchvision() -> Finding:
    """Whether torchvision can be imported: beside a torch that it was not made for it cannot."""
    try:
        version = importlib.metadata.version("torchvision")
        importlib.import_module("torchvision")
    except importlib.metadata.PackageNotFoundError:
        return Finding("torchvision", "not installed", "note", "only to hand its datasets to gls_es.train")
    except Exception as error:  # a compiled part that does not fit raises whatever it likes
        why = " ".join(str(error).split())[:200]
        advice = f"it was made for another torch than {torch.__version__}: install both from one place, a CPU build say"
        return Finding("torchvision", f"{version}, cannot be imported ({type(error).__name__}: {why})", "note", advice)
    return Finding("torchvision", version)


def _evotorch() -> Finding:
    """Whether EvoTorch still has the internals that gls-es uses."""
    from gls_es.problem.internals import missing

    gone = missing()
    if gone:
        return Finding("EvoTorch's internals", f"lack {', '.join(gone)}", "broken", "pip install evotorch==0.6.1")
    return Finding("EvoTorch's internals", "as gls-es needs them")


def _machine() -> list[Finding]:
    found = [Finding("threads", f"{torch.get_num_threads()} (OMP_NUM_THREADS sets another number)"), _kernels()]
    if not torch.cuda.is_available():
        return [*found, Finding("GPU", "none that PyTorch can use", "note", "training runs on the CPU")]
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = f"{torch.cuda.get_device_name(index)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        found.append(Finding(f"GPU cuda:{index}", name))
    return found


def _kernels() -> Finding:
    """Which path bounds take on the CPU."""
    found = kernels.which()
    advice = {
        "not built": "bounds run in PyTorch, several times slower: install gls-es where there is a C compiler",
        "off": f"bounds run in PyTorch, several times slower: {kernels.SWITCH} turns the kernels off",
    }
    return Finding("compiled kernels", found, "note" if found in advice else "ok", advice.get(found, ""))


def _arithmetic() -> list[Finding]:
    """Settings and behaviour that certificates depend on."""
    found = []
    precision = torch.get_float32_matmul_precision()
    if precision == "highest":
        found.append(Finding("float32 products", "full precision"))
    else:
        advice = "torch.set_float32_matmul_precision('highest') before certifying"
        found.append(Finding("float32 products", f"reduced precision ({precision})", "note", advice))
    tiny = torch.tensor([torch.finfo(torch.float32).tiny])
    if float(tiny / 2) == 0.0:
        advice = "a library switched on flush-to-zero; certificates assume gradual underflow"
        found.append(Finding("subnormal numbers", "flushed to zero", "broken", advice))
    else:
        found.append(Finding("subnormal numbers", "kept"))
    return [*found, _self_test()]


def _self_test() -> Finding:
    """Bound and certify a network whose answer is known: f = (relu(x), 0.25) on [0.5 - eps, 0.5 + eps]."""
    from gls_es.certification import certify

    module = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), ([[1.0]], [0.0], [[1.0], [0.0]], [0.0, 0.25]), strict=True):
            parameter.copy_(torch.tensor(value))
    net, images = Network(module, (1,)), torch.tensor([[0.5]])
    verdicts = [certify(net, images, torch.tensor([0]), eps).verdicts[0].verdict for eps in (0.2, 0.3)]
    if verdicts == ["certified", "falsified"]:
        return Finding("self-test", "a known network is certified and falsified where it should be")
    return Finding("self-test", f"wrong verdicts {verdicts}", "broken", "please report this with the output of --json")


def _optional() -> list[Finding]:
    found = []
    for name, purpose in OPTIONAL.items():
        if importlib.util.find_spec(name) is None:
            found.append(Finding(name, "not installed", "note", purpose))
        else:
            found.append(Finding(name, importlib.metadata.version(name)))
    return found


def _data(root: str | Path | None) -> list[Finding]:
    try:
        folder = default_root(root)
    except DataError as error:
        return [Finding("data", str(error), "broken", "")]
    found = []
    for name, places in FOLDERS.items():
        there = [place for place in places if (folder / place).is_dir()]
        if there:
            found.append(Finding(name, str(folder / there[0])))
        else:
            fetched = next((key for key, place in PLACES.items() if place.folder == places[0]), None)
            way = "" if fetched is None else f"gls-es data fetch {fetched}, or "
            advice = f"{way}put it into {folder / places[0]}, or name another root with --data or GLS_ES_DATA"
            found.append(Finding(name, "not found", "note", advice))
    return found
