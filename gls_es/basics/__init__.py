"""What every room may use and what knows no room: seeds, threads, memory, files, answers to mistyped names."""
