"""The losses of margin bounds under their public name; they live with the other losses in :mod:`gls_es.fitness`."""

from gls_es.fitness.losses import robust_cross_entropy as robust_cross_entropy

__all__ = ["robust_cross_entropy"]
