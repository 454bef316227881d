"""``immortal``, the operator's tool."""
