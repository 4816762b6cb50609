"""How all our command lines are set up."""

import typer


def commands(about: str) -> typer.Typer:
    """A command line that opens with ``about``."""
    return typer.Typer(
        help=about,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # drawing boxes would take as long as all the rest of --help
    )
