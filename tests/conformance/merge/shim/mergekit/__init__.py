"""mergekit's import names over conjoin, for its own tests: what those tests call, and nothing else."""
