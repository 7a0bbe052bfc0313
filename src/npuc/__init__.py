"""npuc: attention compiler, binary tools and emulator for AMD's Phoenix NPU (npu1, AIE2)."""

__version__ = "0.1.0"
