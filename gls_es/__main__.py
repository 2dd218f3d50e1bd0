"""``python -m gls_es`` is ``gls-es``."""

from importlib import import_module

import_module("gls_es.cli.app").main(prog_name="gls-es")
