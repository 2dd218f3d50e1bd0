"""The searchers on losses whose smoothed gradients are known."""
