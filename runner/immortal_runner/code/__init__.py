"""A function's code: what GetFunction says of it, its zips, and where they are laid out."""
