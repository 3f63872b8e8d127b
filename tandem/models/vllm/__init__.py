"""Models on vLLM servers of our own: placed, started, kept up, and asked by prefix affinity."""
