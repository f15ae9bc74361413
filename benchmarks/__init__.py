"""Benchmarks: each is run from the root of the repository as ``python -m benchmarks.NAME``.

The rooms `accuracy`, `performance` and `reconstruction` hold one benchmark each, and so do the
other modules here. All of them take what they share from `_common`, and none from each other,
but for `regression`, which looks at ratios of `performance`.
"""
