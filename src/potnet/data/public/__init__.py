"""Public datasets: where their files are, how they come here, and their official splits."""
