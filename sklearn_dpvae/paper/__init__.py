"""The experiments of the paper on any sections, by the paper's recipe and by our defaults.

Run it as ``python -m sklearn_dpvae.paper``. It is at the top of the package: figures, metrics and
both pipelines are used as anybody would use them.
"""
