"""Side-by-side measurements: `python -m benchmarks` (docs/benchmarks.md). May import all, is imported by nobody."""
