"""pyxrt's classes over the emulator: what `npuc.pyxrt` exports.

Each stands on the amdxdna client (npuc.runtime.devices), which speaks to a driver in software: buffers are incoherent,
contexts and the device heap limited as they are on hardware. Surface and behaviour: facts/platform/xrt_python.md.
"""
