"""The problem: fitness, generations, and what EvoTorch sees of it."""
