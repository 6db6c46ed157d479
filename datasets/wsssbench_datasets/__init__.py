"""Built-in data sets. They arrive by the same entry points as a third-party plugin."""
