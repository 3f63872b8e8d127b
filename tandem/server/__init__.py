"""Tandem as a service: an OpenAI-compatible HTTP API over one pair, watched and safe, and a page to look at it.

A request passes the gate (key, limits, room), becomes a problem with options of its own (`requests`), is solved
(`service`), and leaves in OpenAI's shape (`chat`, `completions`). Nothing of a request is written to shared settings.
"""
