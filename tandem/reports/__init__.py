"""What a run, a comparison or a sweep found, for people: terminal tables, Markdown, CSV, and a page."""
