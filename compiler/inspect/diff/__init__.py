"""npuc diff: what differs between two binaries, section by section; README.md beside this file."""
