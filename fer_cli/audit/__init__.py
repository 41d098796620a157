"""Is a data set sound: copies of pictures, labels that contradict each other, and what leaks from split to split."""
