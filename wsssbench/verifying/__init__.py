"""Finished records judged again from the files on disk."""
