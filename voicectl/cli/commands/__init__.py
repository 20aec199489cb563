"""One module a command, one function each; main.py registers them."""
