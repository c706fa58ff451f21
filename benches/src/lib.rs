//! Benchmarks of corio.
