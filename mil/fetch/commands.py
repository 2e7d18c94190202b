"""`mil fetch` at the command line; the work is imported when the command runs."""

from pathlib import Path
from typing import Annotated

import typer


def fetch(
    url: Annotated[
        str, typer.Option(help="URL of the file: https:, http:, s3: or file:; or demo:NAME.")
    ],
    out: Annotated[Path, typer.Option(help="File to write.")],
    checksum: Annotated[
        str, typer.Option(help="Checksum of the file: sha256:HEX or md5:HEX; empty: not checked.")
    ] = "",
) -> None:
    """Download one file of a dataset."""
    from mil.fetch.stage import run

    num_bytes = run(url, out, checksum=checksum)
    typer.echo(f"fetch {out.name}: {num_bytes / 1e6:.1f} MB")
