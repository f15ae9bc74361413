"""The command line: ``sklearn-dpvae demo | fit | predict | evaluate``.

A thin layer over the Python interface: it reads files, calls the estimators and writes files.
"""

from ._main import main

__all__ = ["main"]
