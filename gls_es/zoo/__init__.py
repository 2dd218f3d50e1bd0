"""Small certified networks that come with gls-es: ``gls-es certify zoo:digits-cnn3`` works at once.

Each is a checkpoint without the state of its training; what made it, and how it was certified, is in its entry. Nothing
is downloaded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from gls_es.basics.suggestions import unknown
from gls_es.errors import CheckpointError

PREFIX = "zoo:"


@dataclass(frozen=True)
class Entry:
    """One network of the zoo.

    Attributes:
        name: what follows ``zoo:``.
        sha256: digest of its file.
        made_by: the command that trained it; two, joined by &&, if it goes on from another run.
        eps: the radius of the numbers, in pixel units.
        images: how many test images they are of, the first ones.
        natural: natural accuracy, a fraction.
        certified: certified accuracy, a fraction.
    """

    name: str
    sha256: str
    made_by: str
    eps: float
    images: int
    natural: float
    certified: float

    @property
    def path(self) -> Path:
        """The checkpoint."""
        return Path(__file__).with_name(f"{self.name}.pt")


_GO_ON = (
    "--set average_decay=0.998 --set batch_size=128 --set center_learning_rate=0.0005 --set natural_until=0 "
    "--set natural_weight_start=0.0 --set ramp_until=0 --init START/checkpoint.pt"
)
_ALL = (
    Entry(
        name="digits-cnn3",
        sha256="25a33a94acde35f99bbe8fc7e85b9eead161846be4a315fbb3e931532ba3c4bb",
        made_by="gls-es train --problem digits-cnn3 --searcher grad --method ibp --eps 0.1 --seed 0 --generations 7053",
        eps=0.1,
        images=360,
        natural=0.9694,
        certified=0.8694,
    ),
    Entry(
        name="mnist-cnn3",
        sha256="67145c6d9eb806e48c12f32b2da43d3c7749467d06237b66349aed8e447fc63d",
        made_by="gls-es train --problem mnist-cnn3 --searcher grad --method ibp --eps 0.1 --seed 0 --generations 6550 "
        "--set batch_size=32",
        eps=0.1,
        images=1000,
        natural=0.959,
        certified=0.911,
    ),
    Entry(
        name="mnist-cnn3-0.3",
        sha256="5805798c3ead4e86229e42a8ca7ff040639bd26f1f7ed3c0d94c2e3925da7239",
        made_by="gls-es train --problem mnist-cnn3 --searcher grad --method ibp --eps 0.3 --seed 0 --generations 3700 "
        "--set batch_size=128 --out START && gls-es train --problem mnist-cnn3 --searcher grad --method ibp --eps 0.3 "
        f"--seed 0 --generations 3340 {_GO_ON}",
        eps=0.3,
        images=1000,
        natural=0.911,
        certified=0.746,
    ),
    Entry(
        name="cifar-cnn3-8",
        sha256="4ca85e9556c12ac28515413ad96a3e3ebc132c311832624933f2821ceef7fc40",
        made_by="gls-es train --problem cifar-cnn3 --searcher grad --method ibp --eps 8/255 --seed 0 --generations "
        "1584 --set batch_size=128 --out START && gls-es train --problem cifar-cnn3 --searcher grad --method ibp "
        f"--eps 8/255 --seed 0 --generations 2052 {_GO_ON}",
        eps=8 / 255,
        images=1000,
        natural=0.331,
        certified=0.252,
    ),
)

ENTRIES: dict[str, Entry] = {entry.name: entry for entry in _ALL}
"""Every network by name."""

_SYNONYMS = {"mnist-cnn3-small": "mnist-cnn3"}
"""Names after the published architectures: CNN3-small is CTBench's cnn_3layer_small."""


def located(checkpoint: str | Path) -> Path:
    """The path of a checkpoint: of a zoo network if it is named ``zoo:NAME``, else what was given.

    Raises:
        ConfigError: the zoo has no such network.
        CheckpointError: its file is missing or is not the published one.
    """
    if not str(checkpoint).startswith(PREFIX):
        return Path(checkpoint)
    name = str(checkpoint).removeprefix(PREFIX)
    entry = ENTRIES.get(_SYNONYMS.get(name, name))
    if entry is None:
        raise unknown(name, ENTRIES, "the zoo has no network", offer="it has")
    try:
        digest = hashlib.sha256(entry.path.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(f"{entry.path}: cannot be read ({error.strerror}); install gls-es again.") from error
    if digest != entry.sha256:
        raise CheckpointError(f"{entry.path}: is not the published file; install gls-es again.")
    return entry.path
