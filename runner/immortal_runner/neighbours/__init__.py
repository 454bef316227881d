"""Functions that are container images: their own container, beside the runner's in one task."""
