"""The pictures of the pages, a module each: what is shown, computed, and ``draw``, which draws it."""
