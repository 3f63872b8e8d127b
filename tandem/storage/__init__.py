"""Files that survive a kill, a full disk and an editor: whole files, folders with a lock, JSON lines with checksums."""
