"""What the fitness is at one generation, as plain numbers and names."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Attack:
    """How hard training looks for an adversarial point.

    Attributes:
        steps: gradient steps from every start.
        step_size: their size relative to the attack's radius.
        restarts: how many random starts.
        eps_factor: the attack's radius relative to that of the stage.
    """

    steps: int = 8
    step_size: float = 0.25
    restarts: int = 1
    eps_factor: float = 1.0


@dataclass(frozen=True)
class Stage:
    """What the fitness is at one generation.

    Attributes:
        eps: radius of the box, in [0, 1] pixel units.
        natural_weight: weight κ of the natural cross-entropy; the loss itself gets 1 - κ.
        method: the relaxation, where the loss uses one of any kind.
        loss: a name from ``gls_es.fitness.LOSSES``.
        attack: the search for adversarial points, where the loss makes one.
        sabr_lambda: radius of SABR's small box relative to eps, in [0, 1].
        mtl_ibp_alpha: weight of MTL-IBP's robust part, in [0, 1].
        cc_ibp_alpha: weight of CC-IBP's bounded margins, in [0, 1].
        exp_ibp_alpha: exponent of Exp-IBP's robust part, in [0, 1].
        taps_relus: how many ReLUs, at least, lie behind TAPS' split.
        taps_alpha: share of TAPS' attacked loss in the product with the robust one, in [0, 1].
        taps_connector: width of TAPS' gradient connector, in (0, 1].
        crown_ibp_beta: weight of CROWN-IBP in the mixture with intervals, in [0, 1].
        regularizer: weight of the ramp's regulariser (see ``gls_es.fitness.regularizer``).
        stand_in: a cheaper relaxation that stands in for the method on most images of "robust"
            (``gls_es.fitness.stand_in``); empty: none.
        exact_images: on how many images of a minibatch the method is used as well, where there is a stand-in.
        candidates: a minibatch is chosen from so many times as many images (``gls_es.fitness.choice``); 1: taken as
            they come.
    """

    eps: float
    natural_weight: float
    method: str
    loss: str = "robust"
    attack: Attack = field(default_factory=Attack)
    sabr_lambda: float = 0.4
    mtl_ibp_alpha: float = 0.5
    cc_ibp_alpha: float = 0.5
    exp_ibp_alpha: float = 0.5
    taps_relus: int = 1
    taps_alpha: float = 0.5
    taps_connector: float = 0.5
    crown_ibp_beta: float = 1.0
    regularizer: float = 0.0
    stand_in: str = ""
    exact_images: int = 4
    candidates: int = 1

    @property
    def attack_eps(self) -> float:
        """The attack's radius, in [0, 1] pixel units."""
        return min(1.0, self.eps * self.attack.eps_factor)
