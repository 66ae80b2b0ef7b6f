"""`python -m gsvexport` is the command line."""

from __future__ import annotations

from gsvexport.cli import main

if __name__ == "__main__":
    main()
