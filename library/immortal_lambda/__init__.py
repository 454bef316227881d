"""What a handler author imports, and the values that all rooms share."""

__version__ = "0.1.0"
