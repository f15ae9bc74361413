"""Training: the reference in memory, batches of it, and the skorch net that runs the loop.

May import `_utils`, `masks` and `_network`.
"""
