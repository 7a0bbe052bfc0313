"""The npuc command: `npuc` and `python -m npuc`."""

import gc
import signal


def main() -> None:
    """Run the command, and exit with its code."""
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # nobody is there yet to whom an exception would tell anything
    gc.disable()  # imports leave no cycles behind, and looking for some takes a tenth of `npuc --help`
    from npuc.compiler import cli

    gc.freeze()
    gc.enable()
    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
