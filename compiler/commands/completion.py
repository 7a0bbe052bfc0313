"""npuc completion."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS), metavar="|".join(SHELLS))
def command(shell: str) -> None:
    """Print the script by which a shell completes npuc's commands, options, choices and files.

    \b
    bash  npuc completion bash > ~/.local/share/bash-completion/completions/npuc
    zsh   npuc completion zsh > "${fpath[1]}/_npuc"
    fish  npuc completion fish > ~/.config/fish/completions/npuc.fish
    """
    from click.shell_completion import ShellComplete, get_completion_class

    from npuc.compiler.cli import COMPLETE_VARIABLE, group

    found = get_completion_class(shell)
    assert found is not None
    # Not the shell's own `source`, which starts the shell to ask for its version.
    click.echo(ShellComplete.source(found(group, {}, "npuc", COMPLETE_VARIABLE)))
