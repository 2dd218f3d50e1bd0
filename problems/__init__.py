"""The named problems: network, data, eps and recipe, a few lines each; ``gls_es.registry`` finds them by name."""

from gls_es.registry import available, names, registered_name, resolve  # noqa
from gls_es.registry import BUILT_IN  # noqa
