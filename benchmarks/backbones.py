"""The stages, channels and input size of networks of torchvision and timm, or why one cannot be divided.

Run: python -m benchmarks.backbones [--library timm] [NAME ...] [--most-parameters 50]
Without names, every network of the library with at most --most-parameters million parameters. The last line counts
those that can be divided.
"""

from __future__ import annotations

import argparse
import gc

import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--library", choices=("torchvision", "timm"), default="torchvision")
    parser.add_argument("--most-parameters", type=float, default=50.0, help="in millions; default: 50")
    options = parser.parse_args()
    from eyegender.core.errors import UserError
    from eyegender.models.libraries.timm_backbone import TimmBackbone
    from eyegender.models.libraries.torchvision_backbone import TorchvisionBackbone

    library = TimmBackbone if options.library == "timm" else TorchvisionBackbone
    names = options.names or sorted(library.known_names())
    divided = tried = 0
    print("| `model=` | `model.name=` | stages | channels | size |\n|---|---|---|---|---|")
    for name in names:
        cls = library.configured({"name": name})
        if not options.names and parameters_of(cls) > 1e6 * options.most_parameters:
            continue
        tried += 1
        try:
            backbone = cls()
        except UserError as error:
            print(f"| `{options.library}` | `{name}` | {error} | | |", flush=True)
            continue
        divided += 1
        row = (f"`{options.library}`", f"`{name}`", len(backbone.stages), backbone.channels, cls.default_size)
        print("|", " | ".join(map(str, row)), "|", flush=True)
        del backbone
        gc.collect()
    if not options.names:
        print(f"\n{divided} of {tried} networks of {options.library} can be divided.")


def parameters_of(cls: type) -> int:
    try:
        with torch.device("meta"):
            network = cls.build()  # type: ignore[attr-defined]
    except Exception:  # some networks cannot be built without numbers
        network = cls.build()  # type: ignore[attr-defined]
    return sum(parameter.numel() for parameter in network.parameters())


if __name__ == "__main__":
    main()
