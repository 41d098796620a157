"""Pretrained weights: where they come from, what is known of them, and how they are fetched and read."""
