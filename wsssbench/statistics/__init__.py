"""What differences between numbers mean: resampled images and seeds, intervals, and what can be shown.

Counts and scores come in as arrays, intervals go out; files and tables must not enter.
"""
