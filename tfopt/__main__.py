"""`python -m tfopt` is `tfopt`."""

from .cli import main

if __name__ == "__main__":
    main()
