"""Pictures of records with matplotlib, one function a figure: what is drawn, not where files lie.

Each function takes rows or records of one table (or its numbers) and returns a `Figure`; titles belong to
captions, which are words of `wsssbench.report.figures.captions`. Files are read and written by the commands.
"""
