"""Pictures of records with matplotlib, one function a figure: what is drawn, not where files lie.

Each function takes rows or records of one table (or its numbers) and returns a `Figure`; titles belong to
captions, which are words of `wsssbench.reporting.figures.drawn`. The commands read and write
the files.
"""
