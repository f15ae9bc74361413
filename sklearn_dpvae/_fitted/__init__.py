"""The fitted model: how it is fitted, and how it turns expression into positions.

May import `_utils`, `metrics`, `reconstruction`, `_network` and `_training`.
"""
