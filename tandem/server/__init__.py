"""Tandem as a service: an OpenAI-compatible HTTP API over one pair, with metrics, access control and a web page.

A request passes the gate (key, limits, capacity), becomes a problem with its own options (`requests`), is solved
(`service`), and is returned in OpenAI's format (`answers`, `formats`). Requests never change shared settings.
"""
