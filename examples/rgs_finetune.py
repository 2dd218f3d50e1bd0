"""A network that was trained with intervals for radius 0.1, made better at 0.03 by RGS on CROWN's loss.

    python examples/rgs_finetune.py

Starts from zoo:digits-cnn3, which comes with gls-es, and certifies all held-out digits before and after. Intervals
want a network that they can bound, at some cost in accuracy; at the smaller radius a tighter relaxation wins some of it
back, with the seeds 0, 1 and 2 five or six images of 360. Takes about fifteen seconds.
"""

from __future__ import annotations

import torch

import gls_es
from gls_es.problems.digits import DigitsCNN3
from gls_es.training import load_trained


def main(
    generations: int = 200, images: int = 360, eps: float = 0.03
) -> tuple[gls_es.CertificationReport, gls_es.CertificationReport]:
    """Fine-tune and certify; the reports of the weights before and after."""
    torch.set_num_threads(1)  # the network is too small for more to pay
    start = load_trained("zoo:digits-cnn3").network.parameter_vector()
    problem = DigitsCNN3(eps=eps, method="crown", batch_size=64, seed=0)
    searcher = gls_es.RGS(
        problem,
        popsize=2,  # gradients at two perturbed copies of the weights are averaged
        center_learning_rate=0.002,
        stdev_init=0.01,
        center_init=start,
    )
    searcher.run(generations)
    x, y = problem.data.test.batch(slice(0, images))
    reports = []
    for name, weights in (("before", start), ("after", searcher.status["center"])):
        reports.append(gls_es.certify(problem.network.module(weights), x, y, eps=eps))
        found = reports[-1]
        print(f"{name:<7} natural {found.natural_accuracy:.1%}, certified {found.certified_accuracy:.1%} of {found.n}")
    return reports[0], reports[1]


if __name__ == "__main__":
    main()
