"""Scores of a model on benchmarks, with their uncertainty."""
