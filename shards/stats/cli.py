"""``segue shards stats``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def stats(
    folder: Annotated[Path, typer.Argument(help="A folder of shards.", metavar="DIR")],
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page with plots, all in one file."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object instead of tables.")
    ] = False,
) -> None:
    """Hours, clips, speakers, lengths, padding, quality and rejects of a folder of shards."""
    from shards.stats.measure import measure

    if html is not None:
        _refuse_bad_place(html)
    found = measure(folder)
    if html is not None:
        from shards.atomic import replacing
        from shards.errors import UserError
        from shards.stats.page import page

        try:
            with replacing(html) as aside:
                aside.write_text(page(found), encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"--html: {html} cannot be written ({error.strerror}); name another file"
            ) from error
    if as_json:
        typer.echo(found.json())
    else:
        from shards.stats.tables import show

        show(found)


def _refuse_bad_place(html: Path) -> None:
    from shards.errors import UserError

    if html.is_dir():
        raise UserError(f"--html: {html} is a folder; name a file, such as {html / 'stats.html'}")
    if not html.parent.is_dir():
        raise UserError(f"--html: the folder {html.parent} is not there; make it or name another")
