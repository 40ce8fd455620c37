"""`eyegender export model=... format=onnx`: writes a trained model as one file for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyegender.core.command import command
from eyegender.core.imports import imports_of_command

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("export", groups=("tracking",))
def main(cfg: DictConfig) -> None:
    from eyegender.core.options import ExportOptions
    from eyegender.core.output_folder import new_file
    from eyegender.core.schema import parse_as

    options = parse_as(cfg, ExportOptions)  # before torch is imported, so that a mistake is reported at once
    path = new_file(options.output, "output", "model.onnx", overwrite=options.overwrite)
    with imports_of_command():
        from eyegender.inference.load import load_model
        from eyegender.inference.onnx_export import check_installed, export_onnx

    check_installed()
    model = load_model(options.model, options.tracking)
    difference = export_onnx(model, path)
    spec = model.spec
    print(f"Wrote    {path}, {path.stat().st_size / 1e6:.1f} MB")
    print(f"Input    pixels: uint8 (N, {1 if spec.color == 'gray' else 3}, {spec.size}, {spec.size}), {spec.color}")
    shape = "(N,)" if spec.outputs == 1 else f"(N, {spec.outputs})"
    print(f"Output   {spec.output}: float32 {shape}, within {difference:.1g} of PyTorch's")


if __name__ == "__main__":
    main()
