"""From settings to a plan: recipes, stages, cells with their keys and states. Nothing is trained here."""
