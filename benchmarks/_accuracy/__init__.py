"""Parts of benchmarks/accuracy.py: tasks, methods, scores and the report."""
