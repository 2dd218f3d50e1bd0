"""Independent oracles: a zoo of networks, dense reference bounds, exact minima. Nothing here uses gls_es' bounds."""
