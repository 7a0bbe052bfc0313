"""Programs whose times hardware measured, as npuc programs: `python -m npuc.runtime.validation` prints both."""
