"""Starting values of the hyper-parameters for the problems that are not tuned.

They follow the schedules of eth-sri/CTBench (``scripts/examples``) in proportion: Adam, eps grows from 0 over the first
third of a run on MNIST and the first half on CIFAR-10, and the step size falls towards the end. Absolute numbers
(generations, batch, population, step sizes for smoothed losses) are chosen so that a laptop ends within hours on CNN3;
CTBench trains 16,000 steps of 256 images on MNIST and 62,000 to 94,000 of 128 on CIFAR-10. Nothing here was searched
for: expect to gain by tuning, with ``--set validation=N`` so that the test images stay unseen.
"""

from __future__ import annotations

from gls_es.recipe import Recipe

SMALL: dict[str, Recipe] = {
    "pgpe": Recipe(
        generations=4000,
        popsize=64,
        batch_size=64,
        center_learning_rate=0.01,
        learning_rate_end=0.05,
        stdev_init=0.02,
        natural_until=400,
        ramp_until=1600,
        evaluate_every=250,
    ),
    "rgs": Recipe(
        generations=3000,
        popsize=4,
        batch_size=64,
        center_learning_rate=0.005,
        learning_rate_end=0.05,
        stdev_init=0.005,
        natural_until=100,
        ramp_until=1000,
        evaluate_every=250,
    ),
    "grad": Recipe(
        generations=6000,
        popsize=1,
        batch_size=128,
        center_learning_rate=0.005,
        learning_rate_end=0.05,
        stdev_init=0.0,
        natural_until=200,
        ramp_until=2000,
        evaluate_every=250,
    ),
}
"""CNN3: thousands of weights, so that a population of tens sees most directions now and then."""

MEDIUM: dict[str, Recipe] = {
    "pgpe": Recipe(
        generations=10_000,
        popsize=64,
        batch_size=64,
        center_learning_rate=0.002,
        learning_rate_end=0.05,
        stdev_init=0.005,
        natural_until=1000,
        ramp_until=5000,
        evaluate_every=500,
    ),
    "rgs": Recipe(
        generations=8000,
        popsize=2,
        batch_size=128,
        center_learning_rate=0.001,
        learning_rate_end=0.05,
        stdev_init=0.001,
        ramp_until=4000,
        evaluate_every=500,
        evaluate_images=128,
        l1=1e-6,
    ),
    "grad": Recipe(
        generations=16_000,
        popsize=1,
        batch_size=128,
        center_learning_rate=0.0005,
        learning_rate_end=0.05,
        stdev_init=0.0,
        ramp_until=6000,
        evaluate_every=500,
        evaluate_images=128,
        l1=1e-6,
    ),
}
"""CNN5: about a million weights."""

LARGE: dict[str, Recipe] = {
    "pgpe": Recipe(
        generations=20_000,
        popsize=8,
        batch_size=32,
        center_learning_rate=0.0005,
        learning_rate_end=0.05,
        stdev_init=0.001,
        ramp_until=10_000,
        evaluate_every=1000,
        evaluate_images=64,
    ),
    "rgs": Recipe(
        generations=20_000,
        popsize=2,
        batch_size=128,
        center_learning_rate=0.0005,
        learning_rate_end=0.05,
        stdev_init=0.0005,
        ramp_until=10_000,
        evaluate_every=1000,
        evaluate_images=64,
    ),
    "grad": Recipe(
        generations=60_000,
        popsize=1,
        batch_size=128,
        center_learning_rate=0.0005,
        learning_rate_end=0.05,
        stdev_init=0.0,
        ramp_until=30_000,
        evaluate_every=1000,
        evaluate_images=64,
    ),
}
"""CNN7: ten million weights and more; a single generation of a full-size network takes seconds to minutes on a CPU."""
