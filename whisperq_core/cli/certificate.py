"""`whisperq certificate`: the shared certificate of a cluster."""

from typing import Annotated

import typer

from whisperq_core.cli import options
from whisperq_core.serve import cluster_certificate


def certificate(folder: Annotated[str, typer.Argument(metavar="FOLDER")]) -> None:
    """Create the certificate that lets a cluster's machines connect, and nobody else."""
    path = options.clean_path(folder)
    cluster_certificate.create_certificate(path)
    print(f"Copy {path} to each machine of the cluster, and to none else.")
