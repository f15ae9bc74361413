"""What every room uses: checks of arguments, matrices, optional packages, files.

Imports nothing of this package. Anything may import it.
"""
