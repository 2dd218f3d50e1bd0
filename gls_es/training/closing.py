"""Objects that are closed when their context is left."""

from __future__ import annotations

from typing import Self


class Closing:
    """A context manager for a class with a ``close`` method; it passes every error on."""

    def close(self) -> None:
        """Give back what is held."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
