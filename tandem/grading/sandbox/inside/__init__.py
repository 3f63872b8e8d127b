"""What runs inside a sandbox: standard library only, and nothing of Tandem but this folder is there to import."""
