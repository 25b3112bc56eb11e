"""The parts of `benchmarks.soak`: what is asked, who asks it, what models do about it, and how it is judged."""
