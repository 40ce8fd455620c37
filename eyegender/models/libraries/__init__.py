"""Networks of torchvision and timm as backbones, divided into stages automatically."""
