"""Running frozen networks over images in batches."""
