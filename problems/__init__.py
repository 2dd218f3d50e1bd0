"""The named problems: network, data, eps, recipe, a few lines each; ``gls_es.problem.registry`` finds them."""
