"""Training: the order of the pictures, what happens to them, and the engine that learns from them."""
