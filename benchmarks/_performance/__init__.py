"""Parts of performance.py and regression.py."""
