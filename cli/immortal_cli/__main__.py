"""``python -m immortal_cli`` is ``immortal``."""

from immortal_cli.main import main

main()
