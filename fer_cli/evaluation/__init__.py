"""What is said of a score: predictors, what leaks, what a protocol warns of, and the evaluation itself."""
