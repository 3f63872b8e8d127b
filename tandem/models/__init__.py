"""Models behind one protocol: OpenAI-compatible endpoints, in-process Transformers, and a scriptable fake."""
