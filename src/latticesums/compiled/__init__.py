"""The lattice sums on the CPU without gradients, compiled by numba."""
