"""Searchers: EvoTorch's PGPE as it is, and RGS and plain gradient descent in the same vocabulary."""

from gls_es.searchers.rgs import RGS as RGS
from gls_es.searchers.table import SEARCHERS as SEARCHERS
from gls_es.searchers.table import build as build
