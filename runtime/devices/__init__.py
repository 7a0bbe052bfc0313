"""Devices as the system has them: the amdxdna driver's interface, a client of it, and a driver in software.

README.md says what is where. `system_calls.present()` is what a client speaks through: the system's, or a stand-in.
"""
