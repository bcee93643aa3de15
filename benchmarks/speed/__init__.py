"""Speed, each against a named peer on the same input."""
