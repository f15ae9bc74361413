"""``python -m sklearn_dpvae`` is the command ``sklearn-dpvae``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
