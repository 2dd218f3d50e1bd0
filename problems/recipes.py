"""Starting values of the hyper-parameters for the problems that are not tuned.

They follow the schedules of eth-sri/CTBench (``scripts/examples``) in proportion: Adam, gradients clipped at norm 10,
eps from 0 to its full value over the first part of a run (a third there on MNIST, half on CIFAR-10 and TinyImageNet),
smaller steps towards the end; for CNN5 and CNN7 also IBP initialisation, the smooth ramp and its regulariser. CTBench
takes 16,000 steps of 256 images on MNIST and 62,000 to 94,000 of 128 images on CIFAR-10. The recipes here are shorter,
so that CNN3 ends within hours on a laptop. What CTBench has no counterpart for (population, σ, the step size of PGPE)
is set by the tuned recipes of ``digits-cnn3`` for CNN3, and by guess for the larger networks.

Nothing here was searched for. Expect to gain by tuning, and keep the test images out of it: ``--set validation=N``.
"""

from __future__ import annotations

from gls_es.problem.recipe import Recipe

_SMALL = Recipe(learning_rate_end=0.05, evaluate_every=250)
SMALL: dict[str, Recipe] = {
    # As on the digits, but slower: five times as many weights to learn from as many losses.
    "pgpe": _SMALL.replaced(
        generations=13_000,
        popsize=64,
        batch_size=64,
        candidates=4,
        stand_in="crown-ibp",
        exact_images=4,
        center_learning_rate=0.01,
        stdev_init=0.06,
        stdev_end=0.3,
        natural_until=400,
        ramp_until=5000,
        eps_factor=1.08,
    ),
    # One member sees most images. Half of the run under ibp sees more of them than all of it under crown-ibp, and the
    # other half certifies more than ibp does. Under crown the loss of such a network is several times as large, and
    # training does not get it down again (docs/training.md).
    "rgs": _SMALL.replaced(
        generations=10_000,
        popsize=1,
        batch_size=128,
        center_learning_rate=0.005,
        stdev_init=0.005,
        natural_until=330,
        ramp_until=4000,
        warmup_method="ibp",
        warmup_until=5000,
        main_method="crown-ibp",
    ),
    "grad": _SMALL.replaced(
        generations=5000,
        popsize=1,
        batch_size=128,
        center_learning_rate=0.005,
        stdev_init=0.0,
        natural_until=200,
        ramp_until=2000,
    ),
}
"""CNN3: thousands of weights, trained under ``crown``, the wide ones under ``crown-ibp``.

RGS goes from ``ibp`` to ``crown-ibp``.
"""

_DEEP = Recipe(
    learning_rate_end=0.05,
    gradient_clip=10.0,
    stdev_mode="relative",
    initial_weights="ibp-hidden",
    ramp="smooth",
    evaluate_every=500,
    evaluate_images=128,
    statistics_images=4096,
)
MEDIUM: dict[str, Recipe] = {
    "pgpe": _DEEP.replaced(
        generations=10_000,
        popsize=32,
        batch_size=32,
        center_learning_rate=0.001,
        stdev_init=0.1,
        natural_until=500,
        ramp_until=5000,
    ),
    "rgs": _DEEP.replaced(
        generations=8000,
        popsize=2,
        batch_size=128,
        center_learning_rate=0.0005,
        stdev_init=0.05,
        ramp_until=4000,
        ramp_regularizer=0.5,
        l1=1e-6,
    ),
    "grad": _DEEP.replaced(
        generations=16_000,
        popsize=1,
        batch_size=128,
        center_learning_rate=0.0005,
        stdev_init=0.0,
        ramp_until=6000,
        ramp_regularizer=0.5,
        l1=1e-6,
    ),
}
"""CNN5, up to millions of weights, trained under ``crown-ibp``, on TinyImageNet ``ibp``; σ relative to the layer."""

LARGE: dict[str, Recipe] = {
    "pgpe": _DEEP.replaced(
        generations=20_000,
        popsize=8,
        batch_size=32,
        center_learning_rate=0.0005,
        stdev_init=0.05,
        natural_until=1000,
        ramp_until=10_000,
    ),
    "rgs": _DEEP.replaced(
        generations=20_000,
        popsize=2,
        batch_size=128,
        center_learning_rate=0.0005,
        stdev_init=0.02,
        ramp_until=10_000,
        ramp_regularizer=0.5,
    ),
    "grad": _DEEP.replaced(
        generations=60_000,
        popsize=1,
        batch_size=128,
        center_learning_rate=0.0005,
        stdev_init=0.0,
        ramp_until=30_000,
        ramp_regularizer=0.5,
    ),
}
"""CNN7, ten million weights and more, trained under ``ibp``: one generation takes seconds to minutes on a CPU."""
