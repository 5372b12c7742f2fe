"""Module entry: ``python -m activeselect`` is the command ``activeselect``."""

from activeselect.cli import main

if __name__ == "__main__":
    main()
