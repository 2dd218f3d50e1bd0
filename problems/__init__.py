"""The named problems: network, data, eps and recipe, a few lines each; ``gls_es.registry`` finds them by name."""
