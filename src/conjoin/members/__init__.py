"""Members: models that answer, and adapters that make members of foreign models."""
