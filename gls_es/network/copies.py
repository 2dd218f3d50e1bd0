"""Copies of modules that share nothing with them and hold the same: what is certified is the module that was given.

A class decides itself what a copy of it is (``__deepcopy__``, ``__getstate__``, ``__reduce__``), so that is looked at.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

from torch import nn

from gls_es.basics.checks import is_plain
from gls_es.errors import UnsupportedNetworkError
from gls_es.network.state import changed, contents_of
from gls_es.network.wording import first_line

_WAY = "a copy is worked on, so that the module itself stays as it is; mend what it does when it is copied"


def true_copy(module: nn.Module) -> nn.Module:
    """A deep copy of a module.

    Raises:
        UnsupportedNetworkError: it cannot be copied, or the copy shares layers or weights with it, or holds others.
    """
    name = type(module).__name__
    try:
        copied = copy.deepcopy(module)
    except Exception as error:
        raise UnsupportedNetworkError(
            f"{name} cannot be copied ({first_line(error)}); "
            "detach() the tensors that it keeps, and leave out what belongs to one process."
        ) from error
    if not isinstance(copied, nn.Module) or set(_places(module)) & set(_places(copied)):
        raise UnsupportedNetworkError(f"{name}: its copy shares layers or weights with it; {_WAY}.")
    different = changed(contents_of(module), contents_of(copied))
    if different is not None:
        raise UnsupportedNetworkError(f"{name}: '{different}' is something else in its copy; {_WAY}.")
    return copied


def _places(module: nn.Module) -> Iterator[tuple[str, int]]:
    """Where its parts lie, and the numbers of its weights and buffers."""
    for part in module.modules():
        yield "part", id(part)
    for tensor in (*module.parameters(), *module.buffers()):
        if is_plain(tensor) and tensor.numel():
            yield "numbers", tensor.untyped_storage().data_ptr()
