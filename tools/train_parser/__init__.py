"""Training the compact face parser that comes with fer: a recipe and an archive of faces in, a file of weights out."""
