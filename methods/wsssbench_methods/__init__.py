"""Built-in steps and recipes. They arrive by the same entry points as a stranger's plugin."""
