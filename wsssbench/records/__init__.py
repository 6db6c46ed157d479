"""Records after they were written: read back, checked field by field, verified, handed on.

How a record comes into its folder is `wsssbench.records.store`.
"""
