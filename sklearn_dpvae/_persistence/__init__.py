"""Model files that run no code when they are read.

`save` and `load` are public as `sklearn_dpvae.save` and `sklearn_dpvae.load`. May import
everything but the front ends; classes are looked up by their registered names.
"""

from .archive import load, save

__all__ = ["load", "save"]
