"""Losses, attacks and the regulariser of training."""
