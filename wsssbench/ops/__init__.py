"""Filters, dense CRF and dense energy.

The numerical rooms of the suite: Gaussian filtering on permutohedral lattices or exactly, mean-field
inference and the gated dense energy, batched, on CPU and GPU. Import a module of this package where it is
used: nothing is imported here, because torch and numba are heavy. Training loops, files and scoring must not
enter.
"""
