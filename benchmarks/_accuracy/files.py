"""Writing of results."""

import os


def write_whole(path, text):
    """Write a file such that at no moment there is half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
