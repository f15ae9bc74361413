"""How accurately cells are placed, beside what other methods do.

`methods` and `published` are what is compared, on what `prepared` makes of a split; `runs` runs
them, `scores` measures them, and `report` makes the tables.
"""
