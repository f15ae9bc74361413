"""Speed, scale and worth of anchored multidimensional scaling.

`simulated` needs no data; `real` has the sections that `anchors` and `dimensions` read.
"""
