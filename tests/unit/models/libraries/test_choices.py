"""Names, weights, sizes and normalization of a library's networks, and what is refused."""

from __future__ import annotations

import builtins
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from eyegender.core.errors import UserError
from eyegender.models import initial_backbone
from eyegender.models.backbone import load_backbone
from eyegender.models.initial_backbone import build_backbone
from eyegender.models.libraries import timm_backbone
from eyegender.models.libraries.library_backbone import LibraryBackbone
from eyegender.models.libraries.timm_backbone import TimmBackbone
from eyegender.models.libraries.torchvision_backbone import TorchvisionBackbone
from eyegender.models.model_costs import costs
from eyegender.models.saved_network import ModelSpec, as_pairs, load_network, parse_spec, save_network, untrained
from eyegender.models.weights import load_weights
from eyegender.tracking.stored_config import parse_config
from eyegender.training.build import backbone_class, measured_name
from tests.composing import tiny_config

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TORCHVISION, TIMM = (f"{cls.__module__}.{cls.__name__}" for cls in (TorchvisionBackbone, TimmBackbone))


def vision(name: str, **arguments: Any) -> type[LibraryBackbone]:
    return TorchvisionBackbone.configured({"name": name, **arguments})


def image_models(name: str, **arguments: Any) -> type[LibraryBackbone]:
    return TimmBackbone.configured({"name": name, **arguments})


@pytest.mark.parametrize(
    ("cls", "size", "mean"),
    [
        (vision("resnet18"), 224, IMAGENET_MEAN),
        (vision("efficientnet_b1"), 240, IMAGENET_MEAN),
        (vision("inception_v3"), 299, (0.5, 0.5, 0.5)),
        # torchvision's network converts its input from ImageNet's normalization; its stages do not.
        (vision("googlenet"), 224, (0.5, 0.5, 0.5)),
        # Each entry of the weights has its own size.
        (vision("regnet_y_16gf", weights="IMAGENET1K_SWAG_E2E_V1"), 384, IMAGENET_MEAN),
        (vision("regnet_y_16gf", weights="IMAGENET1K_SWAG_LINEAR_V1"), 224, IMAGENET_MEAN),
        (image_models("convnext_tiny"), 224, IMAGENET_MEAN),
        (image_models("convnext_tiny.in12k_ft_in1k_384"), 384, IMAGENET_MEAN),
        (image_models("convnext_tiny", weights="in12k_ft_in1k_384"), 384, IMAGENET_MEAN),
        (image_models("resnetv2_50"), 224, (0.5, 0.5, 0.5)),
        (image_models("convnext_tiny", weights="somewhere.pth"), 224, IMAGENET_MEAN),
    ],
)
def test_size_and_normalization_are_those_of_the_weights(
    cls: type[LibraryBackbone], size: int, mean: tuple[float, ...]
) -> None:
    assert cls.check_size(0) == cls.default_size == size
    assert cls.mean == mean


def test_normalization_can_be_set() -> None:
    cls = vision("resnet18", mean=[0.1, 0.2, 0.3], std=None)
    assert (cls.mean, cls.std) == ((0.1, 0.2, 0.3), IMAGENET_STD)
    cfg = tiny_config("model=torchvision", "model.name=resnet18", "model.backbone.std=[1,2,3]")
    assert backbone_class(cfg.model).std == (1.0, 2.0, 3.0)


def test_equal_arguments_are_one_class() -> None:
    assert vision("resnet18", weights=None) is vision("resnet18")
    assert vision("resnet18").configured is not None
    assert vision("resnet18") is not vision("resnet34")


@pytest.mark.parametrize(
    ("target", "arguments", "message"),
    [
        (TORCHVISION, {"name": "resnet5"}, "network of torchvision, got 'resnet5'; did you mean .*resnet50"),
        (TORCHVISION, {"name": "fasterrcnn_resnet50_fpn"}, "must be a classification network of torchvision"),
        (TORCHVISION, {"name": None}, "model.name must be the name of a network of torchvision, got None"),
        (TORCHVISION, {"name": "resnet18", "pool": 2}, r"takes name, weights, mean and std, got \['pool'\]"),
        (TORCHVISION, {"name": "resnet18", "mean": [1, 2]}, "mean must be three numbers or null"),
        (TORCHVISION, {"name": "resnet18", "std": [1, 0, 1]}, "std must be three numbers above 0 or null"),
        (TIMM, {"name": "convnext_tony"}, "network of timm, got 'convnext_tony'; did you mean convnext_tiny"),
        (TIMM, {"name": "resnet50.a9_in1k"}, "got 'resnet50.a9_in1k'; did you mean resnet50.*_in1k"),
        # Neither a download from an address in the name nor a folder.
        (TIMM, {"name": "hf-hub:somebody/model"}, "must be a classification network of timm, got 'hf-hub"),
        (TIMM, {"name": "local-dir:/tmp"}, "must be a classification network of timm, got 'local-dir"),
        ("eyegender.models.mobilenet_v2.MobileNetV2", {"name": "x"}, r"takes no arguments, got \['name'\]"),
    ],
)
def test_a_wrong_argument_is_refused(target: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_backbone(target, arguments)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (vision("vit_b_16"), "vit_b_16 cannot be divided into stages: between conv_proj and encoder, it does more"),
        (image_models("vit_tiny_patch16_224"), "after patch_embed, its forward pass does more than call one module"),
        (image_models("mixer_s32_224"), "its features are no map of height and width"),
        (image_models("hrnet_w18_small"), "after transition1.0, its forward pass does more"),
    ],
)
def test_a_network_that_is_no_chain_is_refused_and_the_page_is_named(cls: type[LibraryBackbone], message: str) -> None:
    with pytest.raises(UserError, match=f"{message}.*; write its stages as a class, see docs/extending.md"):
        cls()


@pytest.mark.parametrize(
    ("cls", "size", "message"),
    [
        (vision("alexnet"), 32, r"cannot process images of 32x32 pixels \(Given input size.*set data.size=224"),
        (image_models("swin_tiny_patch4_window7_224"), 96, r"of 96x96 pixels \(Input height .* set data.size=224"),
    ],
)
def test_a_size_that_the_network_cannot_process_is_refused(cls: type[LibraryBackbone], size: int, message: str) -> None:
    state = torch.get_rng_state()
    with pytest.raises(UserError, match=message):
        cls.check_size(size)
    assert torch.equal(torch.get_rng_state(), state)
    assert cls.check_size(224) == 224


def test_building_draws_what_the_library_draws_and_nothing_else() -> None:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    backbone = vision("resnet18")()
    drawn = torch.rand(1)
    torch.manual_seed(0)
    network = resnet18()
    assert torch.equal(drawn, torch.rand(1))
    assert torch.equal(backbone.stages[1].conv1.weight, network.layer1[0].conv1.weight)
    assert backbone.training
    assert all(module.training for module in backbone.modules())


def test_a_process_builds_the_same_network_once(monkeypatch: pytest.MonkeyPatch) -> None:
    initial_backbone._built.clear()
    monkeypatch.setattr(initial_backbone, "_MOST", 4)
    for _ in range(2):
        for name in ("resnet18", "squeezenet1_1"):
            torch.manual_seed(0)
            backbone, _ = build_backbone(vision(name), None)
            assert backbone.name == name
    assert len(initial_backbone._built) == 2


def filled(state: dict[str, torch.Tensor], path: Path) -> Path:
    """A file with random numbers in these names and shapes, as a library's own file."""
    generator = torch.Generator().manual_seed(1)
    random = {
        key: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value.clone()
        for key, value in state.items()
    }
    if path.suffix == ".safetensors":
        save_file(random, path)
    else:
        torch.save(random, path)
    return path


@pytest.mark.parametrize(
    "cls",
    [vision("resnet18"), vision("densenet121"), vision("swin_t"), vision("googlenet"), image_models("convnext_atto")],
)
def test_a_file_with_the_librarys_keys_loads(cls: type[LibraryBackbone], tmp_path: Path) -> None:
    network = cls.build()
    path = filled(network.state_dict(), tmp_path / "w.pth")
    given = torch.load(path)
    backbone = cls()
    assert load_weights(backbone, str(path)).kind == "file"
    own = backbone.stages.state_dict()
    for mine, theirs in backbone.library_keys.items():
        assert torch.equal(own[mine], given[theirs]), theirs
    unused = given.keys() - set(backbone.library_keys.values())
    assert unused == backbone.other_keys


def test_published_files_with_an_auxiliary_head_or_old_names_load(tmp_path: Path) -> None:
    state = vision("densenet121").build().state_dict()
    old = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value for key, value in state.items()}
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "densenet.pth")
    load_weights(vision("densenet121")(), str(tmp_path / "densenet.pth"))
    state = {**vision("googlenet").build().state_dict(), "aux1.fc1.weight": torch.zeros(3)}
    torch.save(state, tmp_path / "googlenet.pth")
    load_weights(vision("googlenet")(), str(tmp_path / "googlenet.pth"))


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    torch.save(vision("resnet34").build().state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"layer1\.2\..* is unknown .*; give a state dict of torchvision's resnet18"):
        load_weights(vision("resnet18")(), str(tmp_path / "w.pth"))


@pytest.mark.parametrize(
    ("cls", "known"),
    [(vision("resnet50"), "DEFAULT, IMAGENET1K_V1, IMAGENET1K_V2"), (image_models("resnet10t"), "c3_in1k")],
)
def test_unknown_weights_are_refused_with_the_known_names(cls: type[LibraryBackbone], known: str) -> None:
    with pytest.raises(UserError, match=f"no file IMAGENET1K_V9, and .* has no weights of that name .*{known}"):
        load_weights(cls(), "IMAGENET1K_V9")


def test_torchvisions_weights_are_chosen_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import ResNet18_Weights

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    cls = vision("resnet18", weights="IMAGENET1K_V1")
    address = ResNet18_Weights.IMAGENET1K_V1.url
    filled(cls.build().state_dict(), tmp_path / "checkpoints" / address.rsplit("/", 1)[-1])
    for choice, kind in (("IMAGENET1K_V1", "IMAGENET1K_V1"), ("auto", "imagenet"), ("imagenet", "imagenet")):
        found = load_weights(cls(), choice)
        assert (found.kind, found.source, found.fallback) == (kind, address, False)
    assert vision("resnet50").pretrained("IMAGENET1K_V1").address != vision("resnet50").pretrained("imagenet").address


def cache_of_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache of Hugging Face's Hub, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_timms_weights_come_from_its_own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_of_the_hub(tmp_path, monkeypatch)
    cls = image_models("resnet10t.c3_in1k")
    repository = tmp_path / "models--timm--resnet10t.c3_in1k"
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    path = filled(cls.build().state_dict(), repository / "snapshots" / "abc" / "model.safetensors")
    from safetensors.torch import load_file

    for choice in ("imagenet", "auto", "c3_in1k"):
        backbone = cls()
        found = load_weights(backbone, choice)
        assert "timm/resnet10t.c3_in1k" in found.source
        own, given = backbone.stages.state_dict(), load_file(path)
        assert all(torch.equal(own[mine], given[theirs]) for mine, theirs in backbone.library_keys.items())


def test_weights_that_cannot_be_downloaded_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache_of_the_hub(tmp_path, monkeypatch)
    monkeypatch.setattr("eyegender.models.weights._reachable", lambda _address: False)
    with pytest.raises(UserError, match=r"^model.weights=imagenet: cannot download resnet10t's weights .*or set model"):
        load_weights(image_models("resnet10t")(), "imagenet")
    assert load_weights(image_models("resnet10t")(), "auto").fallback
    assert "NO PRE-TRAINED WEIGHTS" in caplog.text
    # Without published weights.
    assert load_weights(image_models("convnext_atto_rms")(), "auto").fallback
    with pytest.raises(UserError, match="timm has no weights for convnext_atto_rms"):
        load_weights(image_models("convnext_atto_rms")(), "imagenet")


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_timm(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "timm":
            raise ImportError(name)
        return real_import(name, *arguments, **options)

    monkeypatch.delitem(sys.modules, "timm")
    monkeypatch.setattr(builtins, "__import__", without_timm)
    timm_backbone._names.cache_clear()
    with pytest.raises(UserError, match=r"model=timm needs the package timm; pip install 'eyegender\[timm\]'"):
        image_models("a_network_that_nobody_asked_for")


def spec_of(cls: type[LibraryBackbone], target: str) -> ModelSpec:
    return ModelSpec(target, "linear", 2, 64, "gray", ("a", "b"), arguments=as_pairs(cls.arguments))


def test_a_saved_network_is_read_again(tmp_path: Path) -> None:
    spec = spec_of(vision("resnet18", mean=[0.1, 0.2, 0.3]), TORCHVISION)
    network = untrained(spec)
    save_network(network, spec, tmp_path)
    found, read = load_network(tmp_path)
    assert read == spec
    assert hash(read) == hash(spec)
    assert torch.equal(found.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))
    pixels = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    assert torch.equal(found(pixels), network(pixels))
    parameters, _, _ = costs(spec, latency=False)
    assert parameters == sum(parameter.numel() for parameter in network.parameters())


def test_the_specification_of_our_own_backbones_is_that_of_earlier_versions() -> None:
    spec = ModelSpec("eyegender.models.mobilenet_v2.MobileNetV2", "linear", 2, 64, "gray", ("a", "b"))
    assert "arguments" not in spec.to_json()
    assert parse_spec(json.dumps(spec.to_json())) == spec
    assert replace(spec, arguments=(("name", "x"),)).to_json()["arguments"] == {"name": "x"}


def test_a_stored_config_gives_the_specification() -> None:
    cfg = tiny_config("model=timm", "model.name=convnext_atto", "model.finetune_depth=3", "model.weights=gone.pth")
    stored = parse_config(json.dumps(cfg.model_dump(mode="json", by_alias=True)))
    assert stored is not None
    spec = stored.spec()
    assert (spec.depth, dict(spec.arguments)["name"]) == (3, "convnext_atto")
    assert untrained(spec).cut == 13


def test_measurements_of_two_libraries_have_different_names() -> None:
    names = {
        measured_name(tiny_config(f"model={each}", "model.name=resnet18").model) for each in ("torchvision", "timm")
    }
    assert len(names) == 2
    assert measured_name(tiny_config().model) == "mobilenet_v2"
