"""Knowledge and weights move from model to model."""
