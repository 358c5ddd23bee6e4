"""`python -m fic_runtime` is `fic-runtime`."""

from .cli import main

if __name__ == "__main__":
    main()
