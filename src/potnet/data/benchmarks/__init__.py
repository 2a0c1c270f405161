"""Public benchmarks: where their files are, how they come here, and their official splits."""
