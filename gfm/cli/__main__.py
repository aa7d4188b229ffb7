"""``python -m gfm.cli``."""

from gfm.cli import main

if __name__ == "__main__":
    main()
