"""What all benchmarks share: tasks and their data, the store of results, tables, clocks."""
