"""What a machine lacks to run kernels on an NPU, told from what it lets itself be asked: see README.md."""
