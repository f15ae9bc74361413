"""What training and prediction cost, beside what they would cost without the package.

`internals` is the one module of all benchmarks that imports private names of the package.
"""
