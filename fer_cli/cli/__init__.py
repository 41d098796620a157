"""One module a command: parse, call the stage, print. Heavy imports stay inside the functions."""
