"""Plugins by name: the table of what is installed, their options and the hash of their code."""
