"""Files, whoever wrote them: locked, hashed, opened with care, named in print."""
