"""`conjoin export`: a bundle as one ONNX graph."""

from __future__ import annotations

from conjoin.cli.options import Bundle, Force, Json, Output
from conjoin.cli.show import print_json, say


def export(bundle: Bundle, output: Output, *, force: Force = False, json: Json = False) -> None:
    """Write a bundle as one ONNX graph, which runs in onnxruntime without conjoin.

    Its inputs are the columns, one tensor (rows, 1) each; its outputs "probabilities" and "label", or
    "values", or "quantiles".

    [bold]Example[/]

      conjoin export loans.conjoin -o loans.onnx
    """
    from conjoin.bundle import export as write
    from conjoin.bundle import load
    from conjoin.bundle.place import check_file
    from conjoin.bundle.readme import bytes_text

    check_file(output, force=force)
    write(load(bundle), output, force=force)
    size = output.stat().st_size
    if json:
        print_json({"onnx": str(output), "bytes": size})
    else:
        say(f"wrote {output} ({bytes_text(size)})")
