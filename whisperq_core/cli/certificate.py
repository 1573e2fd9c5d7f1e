"""`whisperq certificate`: the shared certificate of a cluster."""

from typing import Annotated

import typer

from whisperq_core.cli import options
from whisperq_core.serve import cluster_certificate


def certificate(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Folder to create it in.")],
) -> None:
    """Create the certificate of a cluster. Its machines trust each other by it."""
    path = options.clean_path(folder)
    cluster_certificate.create_certificate(path)
    print(f"Copy {path} to every machine of the cluster, and to no other machine.")
