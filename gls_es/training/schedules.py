"""All that changes during training, as pure functions of the generation: resuming needs nothing but its number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gls_es.bounds import method_named
from gls_es.fitness import Attack, Stage
from gls_es.problem.recipe import Recipe


def linear_ramp(step: int, start: int, stop: int) -> float:
    """0 until ``start``, 1 from ``stop`` on, a straight line between."""
    if step < start:
        return 0.0
    return 1.0 if step >= stop else (step - start) / (stop - start)


def smooth_ramp(step: int, start: int, stop: int) -> float:
    """A ramp from 0 at ``start`` to 1 at ``stop`` that begins flat.

    k (step - start)^4 for the first quarter, then the straight line that continues value and slope to 1 (the schedule
    of Shi et al. 2021, arXiv 2103.17268, and the trainings after it).
    """
    middle = start + (stop - start) // 4
    bent, straight = middle - start, stop - middle
    if step <= start or step >= stop or bent == 0:
        return linear_ramp(step, start, stop)
    k = 1.0 / (bent**4 + 4 * bent**3 * straight)
    return k * (step - start) ** 4 if step <= middle else k * (bent**4 + 4 * bent**3 * (step - middle))


def drops(step: int, milestones: Sequence[int], factor: float) -> float:
    """``factor`` to the power of how many milestones ``step`` has reached."""
    return float(factor ** sum(step >= milestone for milestone in milestones))


def cosine_decay(step: int, total: int, end: float) -> float:
    """From 1 at step 0 to ``end`` at the last step, along half a cosine."""
    progress = min(1.0, step / max(1, total - 1))
    return end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * progress))


def geometric_decay(step: int, total: int, end: float) -> float:
    """From 1 at step 0 to ``end`` at the last step, by the same factor each step."""
    return float(end ** min(1.0, step / max(1, total - 1)))


@dataclass(frozen=True)
class Schedule:
    """A recipe as functions of the generation.

    Attributes:
        recipe: the hyper-parameters.
        eps: the radius at full strength (the recipe's factor not yet applied).
        method: the relaxation of the run, or of its problem where the recipe has another.
    """

    recipe: Recipe
    eps: float
    method: str

    def stage(self, generation: int) -> Stage:
        """What the fitness is."""
        recipe = self.recipe
        shape = smooth_ramp if recipe.ramp == "smooth" else linear_ramp
        ramp = shape(generation, recipe.natural_until, recipe.ramp_until)
        early = recipe.warmup_method and generation < recipe.warmup_until
        method = recipe.method_after_warmup(self.method)
        natural = _between(recipe.natural_weight_start, recipe.natural_weight, ramp)
        return Stage(
            eps=min(1.0, self.eps * recipe.eps_factor) * ramp,
            natural_weight=1.0 if generation < recipe.natural_until else natural,
            method=recipe.warmup_method if early else method,
            loss=recipe.loss,
            stand_in="" if early else _cheaper(recipe.stand_in, method),
            exact_images=recipe.exact_images,
            candidates=recipe.candidates,
            attack=Attack(
                recipe.attack_steps, recipe.attack_step_size, recipe.attack_restarts, recipe.attack_eps_factor
            ),
            sabr_lambda=recipe.sabr_lambda,
            mtl_ibp_alpha=recipe.mtl_ibp_alpha,
            cc_ibp_alpha=recipe.cc_ibp_alpha,
            exp_ibp_alpha=recipe.exp_ibp_alpha,
            taps_relus=recipe.taps_relus,
            taps_alpha=recipe.taps_alpha,
            taps_connector=recipe.taps_connector,
            crown_ibp_beta=_between(1.0, recipe.crown_ibp_beta_end, ramp),
            regularizer=recipe.ramp_regularizer * (1.0 - ramp) if ramp > 0.0 else 0.0,
        )

    def learning_rate(self, generation: int) -> float:
        """The optimizer's step size."""
        recipe = self.recipe
        decay = cosine_decay(generation, recipe.generations, recipe.learning_rate_end)
        decay *= drops(generation, recipe.learning_rate_drops, recipe.learning_rate_drop_factor)
        return recipe.center_learning_rate * decay

    def stdev(self, generation: int) -> float:
        """σ, where it is not learned."""
        return self.recipe.stdev_init * geometric_decay(generation, self.recipe.generations, self.recipe.stdev_end)


_DEARER = ("none", "forward", "last", "all")  # passes of relaxations, from cheap to dear


def _cheaper(stand_in: str, method: str) -> str:
    """The stand-in where it spares backward passes, else none; a recipe's was chosen for the problem's usual method."""
    if not stand_in:
        return ""
    spent, spared = (_DEARER.index(method_named(name).passes) for name in (stand_in, method))
    return stand_in if spent < spared else ""


def _between(start: float, end: float, share: float) -> float:
    """``start`` at share 0, ``end`` at share 1, exactly."""
    return end if share == 1.0 else start + share * (end - start)
