"""``python -m coldpress``: the command line without its console script."""

from coldpress.cli import main

if __name__ == "__main__":
    main()
