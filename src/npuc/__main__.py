"""The npuc command: `npuc` and `python -m npuc`."""

import gc


def main() -> None:
    """Run the command, and exit with its code."""
    gc.disable()  # imports leave no cycles behind, and looking for some takes a tenth of `npuc --help`
    from npuc.compiler import cli

    gc.freeze()
    gc.enable()
    cli.main()


if __name__ == "__main__":
    main()
