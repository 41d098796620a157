"""Data sets: one module a source. A loader reads an official layout and yields blocks of rows with their pixels."""
