"""Files that survive a kill, a full disk and an editor: atomic files, locked folders, JSON lines with checksums."""
