"""Reading MLIR that is not ours, in another process.

The bindings are no build with assertions: damaged text, deep nesting and a pass's fault end the process they run in.
`reading.py` is what is done with a text, `forked.py` does it in a forked child, `worker.py` in a process that is
started once and kept (`serve.py`), `attempt.py` chooses. Time, memory and stack are bounded (`limits.py`).
"""
