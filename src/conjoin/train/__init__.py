"""Training: features, folds, learners, the portfolio."""
