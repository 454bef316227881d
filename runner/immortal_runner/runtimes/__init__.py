"""The languages: how each runtime is started, on AWS's base images and on a machine that has none."""
