"""`python -m fic` is `fic`."""

from .cli import main

if __name__ == "__main__":
    main()
