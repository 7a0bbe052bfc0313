"""The npuc command: options in, exit codes and one-line errors out. Everything heavy is imported inside commands."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from npuc import __version__
from npuc.compiler import interrupts, standard_streams
from npuc.compiler.diagnostics import CheckFailed, InputError, InternalError, NpucError, UsageError
from npuc.compiler.plain_text import printable
from npuc.compiler.progress_line import progress_line

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMPLETE_VARIABLE = "_NPUC_COMPLETE"
"""By this variable of the environment a shell asks for completions; `npuc completion` prints what does."""
EPILOG = (
    "Exit codes: 0 done; 1 a check or comparison says no; 2 wrong usage; 3 bad input; 4 backend or device unavailable "
    "or failed; 5 npuc's own fault."
)
OUTPUT_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""Why standard output takes nothing: full, broken or closed."""
INTERRUPTED = 130
"""Exit code of a command that was interrupted: what shells say of a process that SIGINT ended.

`python -m npuc` may end by the signal itself: some versions of Python send it to themselves where the exception went
through the text of an `exec` (dataclasses are made so), whatever became of it. To a shell both are one.
"""


class LazyGroup(click.Group):
    """Finds a command in its module on use, so that `npuc --help` imports none of them."""

    commands_by_name = {
        "compile": ("npuc.compiler.commands.compile", "Compile attention in MLIR to an xclbin."),
        "run": ("npuc.compiler.commands.run", "Run a kernel on the NPU or emulated."),
        "bench": ("npuc.compiler.commands.bench", "Run benchmark cases: cycles, predictions, what binds."),
        "tune": ("npuc.compiler.commands.tune", "Try plans on the emulator, and keep the best for compile."),
        "report": ("npuc.compiler.commands.report", "Write a page that shows a kernel and where a run's time went."),
        "sequence": ("npuc.compiler.commands.sequence", "Write the instruction stream of a call of a kernel."),
        "inspect": ("npuc.compiler.commands.inspect", "Show what a binary holds: xclbin, pdi, cdo, txn, npua, elf."),
        "diff": ("npuc.compiler.commands.diff", "Say what differs between two binaries."),
        "disasm": ("npuc.compiler.commands.disasm", "Print the core programs of a binary as assembly text."),
        "asm": ("npuc.compiler.commands.asm", "Assemble text to an object, an executable or bare code."),
        "golden": ("npuc.compiler.commands.golden", "Record golden binaries, or check that they still compile alike."),
        "lint": ("npuc.compiler.commands.lint", "Report what the exposed pipeline would get wrong in programs."),
        "isa": ("npuc.compiler.commands.isa", "Say what the tables hold of an instruction."),
        "doctor": ("npuc.compiler.commands.doctor", "Say what this machine lacks to run on an NPU."),
        "completion": ("npuc.compiler.commands.completion", "Print the script for completion in a shell."),
        "version": ("npuc.compiler.commands.version", "Print the version."),
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands_by_name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands_by_name:
            return None
        import importlib

        command: click.Command = importlib.import_module(self.commands_by_name[cmd_name][0]).command
        if COMPLETE_VARIABLE in os.environ:
            for parameter in command.params:  # texts that an option or argument takes are mostly names of files
                parameter.type = click.Path() if parameter.type is click.STRING else parameter.type
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands without loading them, and the options of npuc itself."""
        from click.shell_completion import CompletionItem

        commands = [(name, text) for name, (_, text) in self.commands_by_name.items() if name.startswith(incomplete)]
        items = [CompletionItem(name, help=text) for name, text in commands]
        return [*items, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.commands_by_name.items()])


@click.group(
    cls=LazyGroup,
    epilog=EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="npuc", message="%(prog)s %(version)s")
@click.pass_context
def group(context: click.Context) -> None:
    """Attention compiler, binary tools and emulator for AMD's Phoenix NPU (npu1, AIE2)."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: run the command, turn what it raises into one line and an exit code, and exit."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    standard_streams.prepare()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be text
    if instruction := os.environ.get(COMPLETE_VARIABLE):
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(group, {}, "npuc", COMPLETE_VARIABLE, instruction))
    with _Interrupts():
        code = _exit_code(words)
        if interrupts.noted() and code == 0:  # its exception went astray, and nothing looked afterwards
            code = _interrupted()
    sys.exit(code)


class _Interrupts:
    """Notes that an interrupt came, whatever becomes of the exception."""

    def __enter__(self) -> None:
        interrupts.forget()
        self._replaced = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._replaced:
            signal.signal(signal.SIGINT, self._handle)

    def __exit__(self, *_: object) -> None:
        if self._replaced:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    @staticmethod
    def _handle(*_: object) -> None:
        interrupts.note()
        raise KeyboardInterrupt


def _interrupted() -> int:
    interrupts.forget()
    print("interrupted", file=sys.stderr)
    return INTERRUPTED


def _exit_code(words: list[str]) -> int:
    try:
        # Not group.main: it ends a broken pipe with exit code 1, which here means that a check failed.
        with group.make_context("npuc", list(words)) as context, progress_line(words):
            group.invoke(context)
        sys.stdout.flush()
        return 0
    except click.exceptions.Exit as request:
        return request.exit_code
    except click.ClickException as error:
        return _report(_usage_error(error), words)
    except NpucError as error:
        return _report(error, words)
    except (KeyboardInterrupt, click.Abort):
        return _interrupted()
    except BrokenPipeError:
        _abandon_output()  # its reader has gone, nothing is left to say
        return 0
    except MemoryError:
        return _report(InputError("there is not enough memory for this input"), words)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in OUTPUT_FAILS:
            _abandon_output()  # files are written by npuc.compiler.files, which tells its own errors
            return _report(InputError(f"cannot write standard output: {error.strerror}"), words)
        if os.environ.get("NPUC_DEBUG") == "1":
            raise
        text = (str(error).strip() or "no message").splitlines()[0]
        fault = InternalError(
            f"npuc's own fault: {type(error).__name__}: {text}", remedy="NPUC_DEBUG=1 shows where; please report it"
        )
        return _report(fault, words)


def _usage_error(error: click.ClickException) -> UsageError:
    context = getattr(error, "ctx", None)
    remedy = f"see {context.command_path} --help" if context is not None else None
    return UsageError(error.format_message().strip().rstrip(".").replace("\n", " "), remedy=remedy)


def _report(error: NpucError, words: list[str]) -> int:
    if interrupts.noted():  # other code may turn its exception into one of its own: Python's, in the body of a class
        return _interrupted()
    try:
        sys.stdout.flush()  # what was printed of a report belongs before its error
    except OSError:
        _abandon_output()
    print(f"error: {printable(' '.join(str(error).splitlines()))}", file=sys.stderr)
    # A failed check is part of the report that was printed.
    if "--json" in words and not isinstance(error, CheckFailed):
        try:
            print(json.dumps({"error": error_json(error)}), flush=True)
        except OSError:
            _abandon_output()
    return error.exit_code


def _abandon_output() -> None:
    """Standard output cannot be written: leave nothing for the interpreter to flush."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def error_json(error: NpucError) -> dict[str, Any]:
    """What `--json` says of an error; details are the further lines some errors have, as who waits in a deadlock.

    diagnosis: of an emulation that stands still, the units that wait, what for, and the chain to the root.
    """
    place = None if error.place is None else str(error.place)
    told: dict[str, Any] = {
        "message": error.message, "place": place, "remedy": error.remedy, "exit_code": error.exit_code
    }  # fmt: skip
    details = getattr(error, "details", None)
    if details:
        told["details"] = details
    diagnosis = getattr(error, "diagnosis", None)
    if diagnosis is not None:
        told["diagnosis"] = diagnosis.to_json()
    return told


if __name__ == "__main__":
    main()
