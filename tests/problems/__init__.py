"""How problems are found by name."""
