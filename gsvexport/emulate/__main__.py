"""`python -m gsvexport.emulate` fetches the emulator and says where it is."""

from __future__ import annotations

import sys

from gsvexport.emulate.install import setup
from gsvexport.errors import GsvError

if __name__ == "__main__":
    try:
        found = setup(progress=lambda text: print(text, file=sys.stderr, flush=True))  # noqa: T201
    except GsvError as error:
        sys.exit(f"gsvexport: {error}")
    print(found.folder)  # noqa: T201
