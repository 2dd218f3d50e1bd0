"""Tests of gls-es; a package so that the rooms can share ``tests.oracles``."""
