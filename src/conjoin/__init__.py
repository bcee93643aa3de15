"""conjoin."""
