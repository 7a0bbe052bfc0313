"""The commands of npuc, one a module; each offers `command`."""
