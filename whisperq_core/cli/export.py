"""`whisperq export`: a quantized model as a folder."""

from typing import Annotated

import typer

from whisperq_core.cli import options
from whisperq_core.evaluate import history
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize import model_export
from whisperq_core.quantize.recipes import recipe as recipe_named


def export(
    recipe: Annotated[str, typer.Option(help="Recipe name.")],
    out: Annotated[str, typer.Option(metavar="FOLDER", help="Folder to write.")],
    model: options.Model = "base",
    protocol: options.ProtocolOption = "study",
    device: options.Device = "cpu",
) -> None:
    """Save a self-contained quantized model. It loads without the fp32 weights."""
    folder, chosen = options.clean_path(out), recipe_named(recipe)
    chosen_protocol = options.protocol_of(protocol)
    work = history.WorkItem(
        kind=history.EXPORT,
        model=model,
        recipe=chosen.name,
        protocol=chosen_protocol.name,
        device=device,
    )
    with history.record(Store().root, work):
        manifest = model_export.export(model, chosen, folder, device, chosen_protocol)
    size, promised = model_export.size_on_disk(folder), manifest.weights_bytes
    print(
        f"{folder}: {manifest.label}, for {manifest.device}, sha256 {model_export.digest(folder)}"
    )
    print(
        f"{size / 1e6:.1f} MB of weights on disk, {promised / 1e6:.1f} MB in results"
        f" ({100 * (size / promised - 1):+.2f} %), fp32 {manifest.fp32_bytes / 1e6:.1f} MB"
    )
    print(f'import whisperq_core as wq; wq.load({str(folder)!r}).transcribe("speech.wav").text')
