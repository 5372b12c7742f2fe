"""``python -m activeselect`` is the same as the command ``activeselect``."""

from activeselect.cli import main

if __name__ == "__main__":
    main()
