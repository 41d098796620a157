"""Training: the order of the images, their augmentation, and the engine that trains on them."""
