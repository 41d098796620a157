"""What the four papers say: every table, figure and setting, as typed data."""
