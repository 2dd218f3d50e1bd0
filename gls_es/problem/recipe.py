"""The hyper-parameters of a training run, as plain values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gls_es.basics.suggestions import ending
from gls_es.errors import ConfigError

FITNESS = ("raw", "normalized", "ranks")
STDEV_MODES = ("absolute", "relative")
OPTIMIZERS = ("adam", "clipup", "sgd")
RAMPS = ("linear", "smooth")
STATISTICS = ("frozen", "follow")


_COMMON_ATTACK: dict[str, Any] = {"attack_steps": 8, "attack_step_size": 0.25}
_LARGE_STEP: dict[str, Any] = {"attack_steps": 1, "attack_step_size": 2.0}
USUAL_ATTACK: dict[str, dict[str, Any]] = {"mtl-ibp": _LARGE_STEP, "sabr": _LARGE_STEP}
"""Where a loss has another attack than eight small steps: at equal time one large step certifies more."""


@dataclass(frozen=True)
class Recipe:
    """How to train; a problem carries one per searcher, and any field can be overridden for a run.

    A run has three phases, each given by where it ends (generations): natural training until ``natural_until``; then
    the robust loss with eps growing from 0 to its full value until ``ramp_until``, under ``warmup_method`` if that is
    set; then the full eps under the method itself.

    Attributes:
        generations: updates of the center.
        popsize: members per generation (for ``grad``: 1).
        batch_size: images per generation, common to all members.
        optimizer: what follows the estimated gradient: "adam", "clipup" or "sgd".
        center_learning_rate: its step size at the start.
        learning_rate_end: the step size at the end as a fraction of the start's, reached along a cosine; 1 for none.
        learning_rate_drops: generations from which on the step size is multiplied by ``learning_rate_drop_factor``,
            once for each; besides the cosine.
        learning_rate_drop_factor: see there.
        gradient_clip: largest norm of the gradient that the optimizer is given; 0: any.
        stdev_init: standard deviation σ of the weight noise.
        stdev_mode: "absolute": σ is the same for all weights; "relative": it is ``stdev_init`` times the root mean
            square of the layer's weights at the start (of its weight tensor, for its bias too).
        stdev_learning_rate: step size of a learned σ (PGPE); 0 keeps it fixed.
        stdev_end: σ at the end as a fraction of the start's, reached geometrically (only with a fixed σ).
        fitness: "raw" losses follow the gradient of the smoothed loss; "normalized" ones its direction; "ranks" do
            not, but resist outliers (PGPE; RGS has no fitness to shape).
        antithetic: RGS draws its members in pairs θ ± noise, as PGPE always does.
        loss: what is minimised once eps is positive: a name from ``gls_es.fitness.LOSSES``.
        initial_weights: "default" as the problem makes them, "ibp", or "ibp-hidden" for all layers but the last.
        natural_until: generations of natural training at the start.
        ramp_until: generation at which eps is full.
        ramp: the shape of eps' growth: "linear", or "smooth", which begins flat.
        ramp_regularizer: weight of the regulariser that keeps intervals tight and neurons balanced
            (``gls_es.fitness.regularizer``); it falls to 0 as eps grows.
        warmup_method: a cheaper relaxation for the ramp; empty: the run's own method.
        warmup_until: generation at which the run's own method takes over from ``warmup_method``.
        main_method: the run's own method under the loss "robust", where neither the run nor the problem object names
            one; empty: the problem's.
        stand_in: a cheaper relaxation that stands in for the run's own method on most images of a minibatch, without
            a bias (loss "robust"; ``gls_es.fitness.stand_in``), if it is cheaper; empty: none.
        exact_images: on how many images of a minibatch the method itself is used as well, where there is a stand-in.
        candidates: the minibatch is chosen from so many times as many images, those with larger losses at the center
            more often and with smaller weights (``gls_es.fitness.choice``); 1: images are taken as they come.
        natural_weight: weight κ of the natural cross-entropy in the loss once eps is full.
        natural_weight_start: κ at the ramp's start, from where it moves as eps does.
        eps_factor: training radius relative to the certification radius.
        l1: weight of Σ|θ| in the loss.
        average_decay: the result is a running mean of the center, in which the n-th has weight max(1 - average_decay,
            1/n); 0: the last center itself; 1: the plain mean.
        average_from: generations that the mean leaves out at the beginning.
        attack_steps: gradient steps of the attack in every loss that makes one; :meth:`replaced` with another
            loss takes that loss's usual number and size (:data:`USUAL_ATTACK`) where they were the usual ones before.
        attack_step_size: their size relative to the attack's radius.
        attack_restarts: how many random starts it has.
        attack_eps_factor: its radius relative to the training radius.
        sabr_lambda: radius of SABR's small box relative to the training radius.
        mtl_ibp_alpha: weight of MTL-IBP's robust part.
        cc_ibp_alpha: weight of CC-IBP's bounded margins.
        exp_ibp_alpha: exponent of Exp-IBP's robust part.
        taps_relus: how many ReLUs, at least, lie behind the split of "taps" and "staps".
        taps_alpha: share of the attacked loss in their product with the robust one.
        taps_connector: width of their gradient connector; 1 is the exact derivative.
        crown_ibp_beta_end: weight β of CROWN-IBP in "crown-ibp" and its fusion once eps is full; 1 at the ramp's start.
        evaluate_every: generations between evaluations of the center on held-out images.
        evaluate_images: how many of them.
        statistics: what happens to BatchNorm's statistics: "frozen" keeps those of the initial weights; with "follow"
            the center's minibatches update them between generations, and they are computed anew for the final weights.
        statistics_images: training images that they are computed from, at the start or at the end.
    """

    generations: int = 1000
    popsize: int = 64
    batch_size: int = 64
    optimizer: str = "adam"
    center_learning_rate: float = 0.01
    learning_rate_end: float = 0.1
    learning_rate_drops: tuple[int, ...] = ()
    learning_rate_drop_factor: float = 0.2
    gradient_clip: float = 0.0
    stdev_init: float = 0.02
    stdev_mode: str = "absolute"
    stdev_learning_rate: float = 0.0
    stdev_end: float = 1.0
    fitness: str = "raw"
    antithetic: bool = False
    loss: str = "robust"
    initial_weights: str = "default"
    natural_until: int = 0
    ramp_until: int = 500
    ramp: str = "linear"
    ramp_regularizer: float = 0.0
    warmup_method: str = ""
    warmup_until: int = 0
    main_method: str = ""
    stand_in: str = ""
    exact_images: int = 4
    candidates: int = 1
    natural_weight: float = 0.0
    natural_weight_start: float = 1.0
    eps_factor: float = 1.0
    l1: float = 0.0
    average_decay: float = 0.0
    average_from: int = 0
    attack_steps: int = 8
    attack_step_size: float = 0.25
    attack_restarts: int = 1
    attack_eps_factor: float = 1.0
    sabr_lambda: float = 0.4
    mtl_ibp_alpha: float = 0.5
    cc_ibp_alpha: float = 0.5
    exp_ibp_alpha: float = 0.5
    taps_relus: int = 1
    taps_alpha: float = 0.5
    taps_connector: float = 0.5
    crown_ibp_beta_end: float = 0.0
    evaluate_every: int = 100
    evaluate_images: int = 256
    statistics: str = "frozen"
    statistics_images: int = 10_000

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            wanted = type(field.default)
            if wanted is float and isinstance(value, int) and not isinstance(value, bool):
                object.__setattr__(self, field.name, float(value))
            elif wanted is tuple and isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
            elif type(value) is not wanted:
                raise ConfigError(f"recipe: {field.name} must be {_KINDS[wanted]}, not {value!r}.")
        for name in _AT_LEAST_ONE:
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in _NOT_NEGATIVE:
            self._require(name, 0 <= getattr(self, name) < math.inf, "at least 0")
        for name in _POSITIVE:
            self._require(name, 0 < getattr(self, name) < math.inf, "greater than 0")
        self._require("statistics_images", self.statistics_images >= 2, "at least 2")
        for name in _SHARES:
            self._require(name, 0 <= getattr(self, name) <= 1, "between 0 and 1")
        self._require("stand_in", not self.stand_in or self.loss == "robust", "empty unless loss is 'robust'")
        drops = self.learning_rate_drops
        whole = all(type(drop) is int and drop >= 0 for drop in drops)
        self._require("learning_rate_drops", whole and list(drops) == sorted(drops), "generations in ascending order")
        self._require("fitness", self.fitness in FITNESS, f"one of {', '.join(FITNESS)}")
        self._require("stdev_mode", self.stdev_mode in STDEV_MODES, f"one of {', '.join(STDEV_MODES)}")
        self._require("statistics", self.statistics in STATISTICS, f"one of {', '.join(STATISTICS)}")
        self._require("ramp", self.ramp in RAMPS, f"one of {', '.join(RAMPS)}")
        self._require("optimizer", self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}")

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise ConfigError(f"recipe: {name} must be {wanted}, not {getattr(self, name)!r}.")

    @classmethod
    def check(cls, overrides: Mapping[str, Any]) -> None:
        """Refuse a value that no recipe can have; keys that are no fields may be options of a problem.

        Raises:
            ConfigError: there is one.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        cls(**{name: value for name, value in overrides.items() if name in known})

    def method_after_warmup(self, usual: str) -> str:
        """The run's own relaxation: ``main_method``, or the usual one, which is the problem's."""
        return self.main_method or usual

    def replaced(self, **changes: Any) -> Recipe:
        """The recipe with some fields changed.

        Raises:
            ConfigError: a field that does not exist (with the closest name) or a value that makes no sense.
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise ConfigError(f"recipe: unknown key {name!r}{ending(name, known)}")
        loss = changes.get("loss", self.loss)
        inherited = {"stand_in": ""} if loss != "robust" else {}
        return dataclasses.replace(self, **(self._attack_of(loss) | inherited | changes))

    def _attack_of(self, loss: str) -> dict[str, Any]:
        """The usual attack of another loss, where this recipe has the usual one of its own."""
        before, after = (USUAL_ATTACK.get(name, _COMMON_ATTACK) for name in (self.loss, loss))
        same = all(getattr(self, name) == value for name, value in before.items())
        return dict(after) if same and loss != self.loss else {}

    def as_dict(self) -> dict[str, int | float | str | list[int]]:
        """The fields as plain values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


_KINDS = {int: "a whole number", float: "a number", str: "a text", tuple: "a list", bool: "true or false"}
_AT_LEAST_ONE = (
    "generations",
    "popsize",
    "batch_size",
    "evaluate_every",
    "evaluate_images",
    "attack_steps",
    "attack_restarts",
    "exact_images",
    "candidates",
)
_NOT_NEGATIVE = (
    "natural_until",
    "ramp_until",
    "warmup_until",
    "stdev_init",
    "stdev_learning_rate",
    "l1",
    "gradient_clip",
    "ramp_regularizer",
    "average_from",
    "taps_relus",
)
_POSITIVE = (
    "center_learning_rate",
    "learning_rate_end",
    "learning_rate_drop_factor",
    "stdev_end",
    "eps_factor",
    "attack_step_size",
    "attack_eps_factor",
    "taps_connector",
)
_SHARES = (
    "natural_weight",
    "natural_weight_start",
    "average_decay",
    "sabr_lambda",
    "mtl_ibp_alpha",
    "cc_ibp_alpha",
    "exp_ibp_alpha",
    "taps_alpha",
    "taps_connector",
    "crown_ibp_beta_end",
)
