"""Priors, likelihoods and naive Bayes; what networks can represent."""
