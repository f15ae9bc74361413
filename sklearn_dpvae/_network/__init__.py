"""The network: layers, likelihoods, loss formulas, and the variational autoencoder.

Pure torch: it knows tensors, not data sets. May import `_utils`.
"""
