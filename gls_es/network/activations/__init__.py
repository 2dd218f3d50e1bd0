"""Activations other than ReLU, one file each: what is known of a function of one number, and nothing about bounds."""
