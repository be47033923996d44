"""What of the Bayesian talk is true, and what is not."""
