"""Built-in steps and recipes. They arrive by the same entry points as a third-party plugin."""
