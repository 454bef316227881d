"""The execution environment: a function's process, from start to outcome."""
