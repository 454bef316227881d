"""An AWS on one machine: an emulator for what only stores, and workers for what really has to happen."""
