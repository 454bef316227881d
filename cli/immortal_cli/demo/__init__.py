"""``immortal demo``: the whole path on this machine, watched."""
