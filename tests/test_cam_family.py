"""The CAM family: identities on random networks, the PyPI package grad-cam beside it, the steps' manners."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsssbench.errors import UnknownName, WsssError
from wsssbench.nets.backbones import Backbone
from wsssbench.nets.heads import Classifier, multi_scale_cam, normalise_cam
from wsssbench.plugins.options import build_config
from wsssbench_methods import map_rules
from wsssbench_methods.cam_family import (
    GradCam,
    GradCamConfig,
    GradCamPlusPlus,
    GradientPredictor,
    LayerCam,
    LayerCamConfig,
    ScoreCam,
    ScoreCamConfig,
    ScorePredictor,
)
from wsssbench_methods.localizer import Cam, CamConfig, CamPredictor
from wsssbench_methods.map_rules import RULES, GradientMaps, channel_weights, check_layers, fused, tapped

CLASSES = 4
SEEDS = range(5)
STEPS = {"gradcam": GradCam, "gradcam++": GradCamPlusPlus, "layercam": LayerCam, "scorecam": ScoreCam}


class DenseBackbone(nn.Module):
    """Random features on the image's own grid, behind a normalisation: a `Backbone` of stride 1."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU()
        )
        self.channels = 12
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 120.0))
        self.register_buffer("std", torch.full((1, 3, 1, 1), 60.0))

    def forward(self, pixels: Tensor) -> Tensor:
        out: Tensor = self.body((pixels.float() - self.mean) / self.std)
        return out


def network(seed: int, backbone: str = "small", gain: float = 1.0) -> Classifier:
    """A random classifier in evaluation mode; `gain` times larger weights in its head."""
    torch.manual_seed(seed)
    body: Any = DenseBackbone() if backbone == "dense" else Backbone(backbone)
    net = Classifier(body, CLASSES).eval()
    net.head.weight.data *= gain
    return net


def photos(seed: int, height: int = 40, width: int = 56, count: int = 2) -> Tensor:
    """(count, 3, height, width) uint8: coloured noise, coarse enough to pass through the network."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, height // 8, width // 8, generator=draw)
    return (F.interpolate(coarse, size=(height, width), mode="bilinear") * 255).byte()


def every_class(count: int = 2) -> Tensor:
    return torch.arange(CLASSES).expand(count, CLASSES)


def maps_of(net: Classifier, name: str, pixels: Tensor, *layers: str) -> Tensor:
    """(B, K, h, w) raw maps of all classes on one scale."""
    classes = every_class(len(pixels))
    return GradientMaps(net, RULES[name], layers or ("last",), classes).class_maps(pixels)


def score_maps(net: Classifier, pixels: Tensor, channels: int = 0) -> Tensor:
    with torch.no_grad():
        features = net.backbone(pixels)
        weights = [channel_weights(net, x, f, channels) for x, f in zip(pixels, features, strict=True)]
        return torch.einsum("bkc,bchw->bkhw", torch.stack(weights), features)


def xgradcam(features: Tensor, gradients: Tensor) -> Tensor:
    """XGrad-CAM (Fu et al., BMVC 2020): gradients weighted by each cell's share of its channel, by cells."""
    mass = features.sum((-2, -1), keepdim=True)
    share = torch.where(mass > 0, features / mass, torch.zeros(()))
    cells = features.shape[-2] * features.shape[-1]
    return ((gradients * share).sum((-2, -1), keepdim=True) * features).sum(-3) * cells


def unit(maps: Tensor) -> Tensor:
    return normalise_cam(maps.relu())


# ---------------------------------------------------------------------------------------------- identities


@pytest.mark.parametrize("backbone", ["small", "dense", "resnet18"])
@pytest.mark.parametrize("seed", SEEDS)
def test_cam_grad_cam_and_xgrad_cam_coincide_behind_pooling_and_a_linear_head(
    seed: int, backbone: str
) -> None:
    net, pixels = network(seed, backbone), photos(seed, *((64, 64) if backbone == "resnet18" else ()))
    cam = unit(net.class_maps(pixels).detach())
    assert cam.amax() > 0.9
    for rule in (RULES["gradcam"], xgradcam):
        found = unit(GradientMaps(net, rule, ("last",), every_class()).class_maps(pixels))
        assert (found - cam).abs().max() < 1e-4


@pytest.mark.parametrize("seed", SEEDS)
def test_grad_cam_is_the_class_map_itself_at_every_scale(seed: int) -> None:
    net, pixels = network(seed), photos(seed)
    several = multi_scale_cam(net, pixels, (0.75, 1.0, 1.5), flip=True)
    family = GradientMaps(net, RULES["gradcam"], ("last",), every_class())
    found = multi_scale_cam(family, pixels, (0.75, 1.0, 1.5), flip=True)
    assert torch.allclose(found, several, atol=1e-5 * float(several.detach().max()))


@pytest.mark.parametrize("seed", SEEDS)
def test_behind_a_linear_head_grad_cam_plus_plus_and_layercam_have_closed_forms(seed: int) -> None:
    net, pixels = network(seed, gain=20), photos(seed)
    features, weight = net.backbone(pixels).detach(), net.head.weight.detach().flatten(1)
    means = features.mean((2, 3))[:, None]  # (B, 1, c)
    plus = weight.relu() / (2 + means * weight.relu())
    assert_close(maps_of(net, "gradcam++", pixels), torch.einsum("bkc,bchw->bkhw", plus, features))
    assert_close(maps_of(net, "layercam", pixels), torch.einsum("kc,bchw->bkhw", weight.relu(), features))


def assert_close(found: Tensor, want: Tensor) -> None:
    assert torch.allclose(found, want, atol=1e-5 * float(want.abs().max()))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_closed_form_of_grad_cam_plus_plus_holds_the_derivatives_of_the_exponential(seed: int) -> None:
    """alpha by eq. 19 with second and third derivatives of exp(score) from automatic differentiation."""
    draw = torch.Generator().manual_seed(seed)
    features = torch.rand(2, 2, 3, generator=draw, dtype=torch.float64)
    weight = torch.randn(2, generator=draw, dtype=torch.float64)
    mean_gradient = (weight / 6)[:, None, None].expand(2, 2, 3)
    want = torch.zeros(2, 3, dtype=torch.float64)
    for channel in range(2):
        total = torch.zeros((), dtype=torch.float64)
        for cell in np.ndindex(2, 3):
            first, second, third = derivatives(features, weight, (channel, *cell))
            alpha = second / (2 * second + features[channel].sum() * third)
            total += alpha * first.relu()
        want += total * features[channel]
    found = RULES["gradcam++"](features[None], mean_gradient[None])[0]
    score = (features.mean((1, 2)) * weight).sum()
    assert torch.allclose(found * score.exp(), want, rtol=1e-9)


def derivatives(features: Tensor, weight: Tensor, cell: tuple[int, ...]) -> list[Tensor]:
    """The first three derivatives of exp(mean-pooled linear score) by one cell."""
    x = features[cell].clone().requires_grad_()
    moved = features.index_put(tuple(torch.tensor(i) for i in cell), x)
    value = (moved.mean((1, 2)) * weight).sum().exp()
    found = []
    for _ in range(3):
        (value,) = torch.autograd.grad(value, x, create_graph=True)
        found.append(value.detach())
    return found


def test_each_image_gets_the_gradient_of_its_own_classes() -> None:
    net, pixels = network(3), photos(3)
    classes = torch.tensor([[2, 0], [1, 3]])
    together = GradientMaps(net, RULES["layercam"], ("0.blocks.1",), classes).class_maps(pixels)
    every = maps_of(net, "layercam", pixels, "0.blocks.1")
    assert torch.allclose(together, every[torch.arange(2)[:, None], classes], rtol=1e-4, atol=1e-6)
    alone = maps_of(net, "layercam", pixels[1:], "0.blocks.1")
    assert torch.allclose(every[1:], alone, rtol=1e-4, atol=1e-6)


def test_layers_are_fused_by_their_maximum_on_the_finest_grid() -> None:
    net, pixels, layers = network(1), photos(1), ("0.blocks.0", "last", "0.blocks.1")
    found = maps_of(net, "layercam", pixels, *layers)
    parts = [unit(maps_of(net, "layercam", pixels, name)) for name in layers]
    assert found.shape[-2:] == parts[0].shape[-2:] == (20, 28)
    lifted = [parts[0].mul(2).tanh(), parts[1], parts[2].mul(2).tanh()]
    large = [F.interpolate(p, size=(20, 28), mode="bilinear", align_corners=False) for p in lifted]
    assert torch.equal(found, torch.stack(large).amax(0))
    assert 0 <= found.min() < found.max() <= 1
    assert fused([parts[0]], ["0.blocks.0"]) is parts[0]


def test_a_part_that_works_in_place_is_seen_as_it_was() -> None:
    net = Classifier(Backbone("resnet18"), CLASSES).eval()
    (before, after), _ = tapped(net, ("1", "2"), photos(0))  # BatchNorm, and the ReLU that overwrites it
    assert before.min() < 0
    assert torch.equal(after, before.relu())


def test_no_graph_is_kept_in_front_of_the_tapped_part() -> None:
    net = network(0).requires_grad_(False)
    (part,), logits = tapped(net, ("0.blocks.2",), photos(0))
    assert part.is_leaf
    assert logits.requires_grad
    assert not net.backbone.body[0].blocks[2]._forward_hooks


def test_an_unknown_part_of_the_backbone_is_told_with_the_known_ones() -> None:
    check_layers(("last", "0.blocks.3", "0.blocks.3.norm1"), Backbone("small"))
    with pytest.raises(UnknownName, match=r"no part '0\.block\.3'") as caught:
        check_layers(("0.block.3",), Backbone("small"))
    assert "did you mean 0.blocks.3" in caught.value.hint
    with pytest.raises(UnknownName):
        check_layers(("",), Backbone("small"))


# ----------------------------------------------------------------------------------------------- Score-CAM


def test_score_cam_is_a_softmax_over_channels_of_the_scores_of_masked_images() -> None:
    net, pixels = network(2, gain=20), photos(2, count=1)
    features = net.backbone(pixels)[0].detach()
    behind = (pixels.float() - net.backbone.mean) / net.backbone.std
    logits = []
    for channel in features:
        mask = F.interpolate(channel[None, None], size=(40, 56), mode="bilinear", align_corners=False)
        mask = (mask - mask.min()) / (mask.max() - mask.min()).clamp_min(1e-12)
        logits.append(net.tag_logits(net.backbone.body(behind * mask))[0].detach())
    want = torch.stack(logits).softmax(0).T
    found = channel_weights(net, pixels[0], features, 0).detach()
    assert torch.allclose(found, want, rtol=1e-3, atol=1e-7)
    assert torch.allclose(found.sum(1), torch.ones(CLASSES))
    assert found.std() > 1e-4


@pytest.mark.parametrize(("channels", "scored"), [(1, 1), (20, 20), (128, 128), (500, 128), (0, 128)])
def test_score_cam_costs_one_forward_pass_per_channel_it_keeps(
    channels: int, scored: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, pixels = network(4), photos(4, count=1)
    features = net.backbone(pixels)[0].detach()
    seen: list[int] = []
    net.backbone.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    with torch.no_grad():
        weights = channel_weights(net, pixels[0], features, channels)
    assert (sum(seen), max(seen) <= 16) == (scored, True)
    variance = features.var((1, 2))
    kept = (weights > 0).all(0)
    assert (kept.sum(), (weights > 0).any(0).sum()) == (scored, scored)
    assert channels in (0, 128, 500) or variance[kept].min() >= variance[~kept].max()


# ------------------------------------------------------------------------------------ the package grad-cam


class Behind(nn.Module):
    """The logits of a classifier from normalised images: what the package calls a model."""

    def __init__(self, net: Classifier) -> None:
        super().__init__()
        self.net = net

    def forward(self, normalised: Tensor) -> Tensor:
        return self.net.tag_logits(self.net.backbone.body(normalised))


def package_maps(name: str, net: Classifier, pixels: Tensor, layer: str = "last") -> Tensor:
    """(B, K, h, w) maps of the package, on the features' grid: it is told that the image has that size."""
    reason = "the package grad-cam (extra dev) is not installed"
    package = pytest.importorskip("pytorch_grad_cam", reason=reason, exc_type=ImportError)
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets", exc_type=ImportError)
    net = copy.deepcopy(net)
    part = net.backbone.body.get_submodule("" if layer == "last" else layer)
    normalised = (pixels.float() - net.backbone.mean) / net.backbone.std
    grids: list[tuple[int, int]] = []
    part.register_forward_hook(lambda module, inputs, output: grids.append(tuple(output.shape[-2:])))
    planes = []
    with getattr(package, name)(Behind(net), [part]) as explainer:
        explainer.get_target_width_height = lambda image: grids[0][::-1]
        for k in range(CLASSES):
            wanted = [targets.ClassifierOutputTarget(k)] * len(pixels)
            planes.append(torch.from_numpy(explainer(normalised, wanted)))
    return torch.stack(planes, 1)


def min_max(maps: Tensor) -> Tensor:
    """The package's scaling: a rectified map from its minimum to its maximum, 0..1."""
    maps = maps.relu() - maps.relu().amin((2, 3), keepdim=True)
    return maps / maps.amax((2, 3), keepdim=True).clamp_min(1e-12)


@pytest.mark.parametrize("seed", SEEDS[:3])
@pytest.mark.parametrize(
    ("name", "theirs", "layer"),
    [
        ("gradcam", "GradCAM", "last"),
        ("gradcam", "GradCAM", "0.blocks.1"),
        ("layercam", "LayerCAM", "last"),
        ("layercam", "LayerCAM", "0.blocks.0"),
    ],
)
def test_grad_cam_and_layercam_are_those_of_the_package_up_to_its_scaling(
    name: str, theirs: str, layer: str, seed: int
) -> None:
    """The package scales from the minimum to the maximum, here maps are divided by their maximum: the same
    where a map touches 0, as Grad-CAM's usually do. A map that is positive everywhere keeps its floor here
    and loses it there (LayerCAM's at the last layer): for the comparison ours are scaled like the package's.
    """
    net, pixels = network(seed, gain=20), photos(seed)
    found, want = maps_of(net, name, pixels, layer), package_maps(theirs, net, pixels, layer)
    assert (min_max(found) - want).abs().max() < 1e-4
    touching = found.amin((2, 3)) <= 0
    by_maximum = found.relu() / found.amax((2, 3), keepdim=True).clamp_min(1e-12)  # without the 1e-5 of PSA
    assert ((by_maximum - want).abs().amax((2, 3))[touching] < 1e-4).all()
    if (name, layer) == ("layercam", "last"):
        assert (unit(found) - want).abs().max() > 1e-2


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_grad_cam_plus_plus_is_that_of_the_package_where_gradients_are_large(seed: int) -> None:
    """With a strong head the 1e-6 that the package adds to a denominator of squared gradients is small."""
    net, pixels = network(seed, gain=200), photos(seed)
    found, want = maps_of(net, "gradcam++", pixels), package_maps("GradCAMPlusPlus", net, pixels)
    assert (min_max(found) - want).abs().max() < 1e-4


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_grad_cam_plus_plus_of_the_package_differs_by_its_epsilon_where_gradients_are_small(
    seed: int,
) -> None:
    """The package computes g^2 / (2 g^2 + sum(A) g^3 + 1e-6); here g^2 is cancelled and nothing is added. The
    gradient of a pooled logit is a head weight over the number of cells, often below 1e-3: there the epsilon
    outweighs the rest, and the package's weights fall with the third power of the gradient. With its epsilon
    in our form, 1 / (2 + sum(A) g + 1e-6 / g^2), the maps agree.
    """
    net, pixels = network(seed, gain=0.1), photos(seed)
    want = package_maps("GradCAMPlusPlus", net, pixels)
    assert (min_max(maps_of(net, "gradcam++", pixels)) - want).abs().max() > 1e-2

    def with_epsilon(features: Tensor, gradients: Tensor) -> Tensor:
        g, mass = gradients.relu(), features.sum((-2, -1), keepdim=True)
        weights = torch.where(g > 0, g / (2 + mass * g + 1e-6 / g**2), torch.zeros(()))
        return (weights.sum((-2, -1), keepdim=True) * features).sum(-3)

    found = GradientMaps(net, with_epsilon, ("last",), every_class()).class_maps(pixels)
    assert (min_max(found) - want).abs().max() < 1e-4


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_score_cam_is_that_of_the_package_where_masks_need_no_enlargement(seed: int) -> None:
    """Stride 1: no resizing. Both take logits, a softmax over channels and masks from minimum to maximum."""
    net, pixels = network(seed, "dense", gain=20), photos(seed, 24, 32)
    found, want = score_maps(net, pixels), package_maps("ScoreCAM", net, pixels)
    assert (min_max(found) - want).abs().max() < 1e-4


def test_score_cam_of_the_package_enlarges_masks_with_aligned_corners(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here masks are enlarged with align_corners off, as every map in this project is; the package aligns
    corners, which shifts masks by up to half a cell at the border. With its enlargement in ours the maps
    agree. (What is masked is the normalised image in both.)
    """
    net, pixels = network(0, gain=100), photos(0)
    want = package_maps("ScoreCAM", net, pixels)
    assert (min_max(score_maps(net, pixels)) - want).abs().max() > 1e-3

    def aligned(planes: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(planes, size=size, mode="bilinear", align_corners=True)

    monkeypatch.setattr(map_rules, "resize", aligned)
    assert (min_max(score_maps(net, pixels)) - want).abs().max() < 1e-4


# ---------------------------------------------------------------------------------------- steps and manners


class Quiet:
    """As much of a context as a predictor uses."""

    def __init__(self, precision: str = "fp32", device: str = "cpu") -> None:
        self.precision, self.device = precision, device

    def phase(self, name: str) -> Any:
        return nullcontext()


def predictor(name: str, net: Classifier, ctx: Any, **options: Any) -> CamPredictor:
    """The predictor of the step `name` on a given network; two scales and mirror images."""
    options = {"scales": (1.0, 1.5), **options}
    config: Any = {"cam": CamConfig, "layercam": LayerCamConfig, "scorecam": ScoreCamConfig}.get(
        name, GradCamConfig
    )(**options)
    plain = CamPredictor(copy.deepcopy(net), config, ctx)
    if name == "cam":
        return plain
    if name == "scorecam":
        return ScorePredictor(plain, config.channels)
    return GradientPredictor(plain, RULES[name], config.layers)


def ask(made: CamPredictor, pixels: Tensor, tags: Any) -> list[Any]:
    rows = None if tags is None else np.array(tags, bool)
    return list(made(list(pixels), rows, [], frozenset({"maps", "tag_scores"})))


TAGS = [[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]


def devices() -> list[Any]:
    absent = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    return ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, absent])]


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("name", STEPS)
def test_maps_are_of_each_images_own_classes_in_the_unit_range_and_repeatable(name: str, device: str) -> None:
    net, pixels = network(5, gain=10), photos(5, count=3).to(device)
    made = predictor(name, net, Quiet(device=device))
    found, again = ask(made, pixels, TAGS), ask(made, pixels, TAGS)
    for output, repeated, tags in zip(found, again, TAGS, strict=True):
        assert output.maps.classes.tolist() == np.flatnonzero(tags).tolist()
        assert (output.maps.values.shape, output.maps.values.dtype) == ((sum(tags), 5, 7), np.float32)
        assert ((output.maps.values >= 0) & (output.maps.values <= 1)).all()
        assert all(plane.max() == pytest.approx(1, abs=1e-2) for plane in output.maps.values)
        assert np.array_equal(output.maps.values, repeated.maps.values)
        assert output.tag_scores.shape == (CLASSES,)
    want = ask(predictor("cam", net, Quiet(device=device)), pixels, TAGS)
    for output, plain in zip(found, want, strict=True):
        assert np.allclose(output.tag_scores, plain.tag_scores, atol=1e-5)
        assert name != "gradcam" or np.allclose(output.maps.values, plain.maps.values, atol=1e-4)


@pytest.mark.parametrize("name", STEPS)
def test_without_tags_it_is_one_scale_without_mirror_for_the_predicted_classes(name: str) -> None:
    net, pixels = network(6, gain=10), photos(6)
    alone = ask(predictor(name, net, Quiet()), pixels, None)
    own = [output.tag_scores > 0.5 for output in alone]
    assert 0 < np.sum(own) < 2 * CLASSES
    plain = predictor(name, net, Quiet(), scales=(1.0,), flip=False)
    for output, want in zip(alone, ask(plain, pixels, own), strict=True):
        assert np.array_equal(output.maps.classes, want.maps.classes)
        assert np.allclose(output.maps.values, want.maps.values, atol=1e-6)
    several = ask(predictor(name, net, Quiet()), pixels, own)
    assert any(not np.allclose(a.maps.values, b.maps.values) for a, b in zip(alone, several, strict=True))


@pytest.mark.parametrize("name", ["gradcam", "gradcam++", "layercam"])
def test_gradients_are_float32_in_a_bf16_run_and_work_inside_inference_mode(name: str) -> None:
    net, pixels = network(7, gain=10), photos(7)
    layers: dict[str, Any] = (
        {"layers": ("0.blocks.1", "last")} if name == "layercam" else {"layer": "0.blocks.1"}
    )
    want = ask(predictor(name, net, Quiet("fp32"), **layers), pixels, TAGS[:2])
    made = predictor(name, net, Quiet("bf16"), **layers)
    with torch.inference_mode():
        found = ask(made, pixels.clone(), TAGS[:2])
    for output, other in zip(found, want, strict=True):
        assert np.array_equal(output.maps.values, other.maps.values)
        assert output.maps.values.shape[1:] == (10, 14)


@pytest.mark.parametrize("name", STEPS)
def test_the_step_asks_for_the_very_training_of_cam(name: str) -> None:
    cls: Any = STEPS[name]
    assert cls.card.name == name
    assert set(cls.presets) == set(Cam.presets) >= {"shapes", "mobilenet", "tiny"}
    for preset in cls.presets:
        step, cam = (c(build_config(name, c, {"preset": preset})) for c in (cls, Cam))
        assert step._plan == cam._plan


def test_a_run_of_the_whole_family_trains_one_classifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsssbench.machine.hardware import resolve_hardware
    from wsssbench.planning.plan import make_plan
    from wsssbench.planning.settings import Settings
    from wsssbench.plugins.table import Plugins
    from wsssbench.running.engine import Engine
    from wsssbench.running.screen.progress import Progress
    from wsssbench.running.step_runner import StepRunner
    from wsssbench_methods import classifier

    trained: list[int] = []
    fit = classifier.fit_tags
    monkeypatch.setattr(classifier, "fit_tags", lambda *args: (trained.append(1), fit(*args)))
    names = ("cam", *STEPS)
    settings = Settings(
        methods=names,
        datasets=("shapes",),
        stages=("pseudo",),
        runs=tmp_path,
        device="cpu",
        options={name: {"preset": "tiny"} for name in names},
        dataset_options={"shapes": {"preset": "tiny"}},
        limit=4,
    )
    cells = make_plan(settings, Plugins())
    failed = Engine(StepRunner(resolve_hardware(settings), 4, Progress(quiet=True))).run(cells)
    assert (failed, len(trained), len(cells)) == (0, 1, 5)


def test_options_that_make_no_sense_are_told_before_any_training() -> None:
    with pytest.raises(WsssError, match=r"-1 is out of range \[scorecam.channels\]"):
        build_config("scorecam", ScoreCam, {"channels": -1})
    with pytest.raises(WsssError, match=r"this is empty \[layercam.layers\]"):
        build_config("layercam", LayerCam, {"layers": ()})
    step = LayerCam(LayerCamConfig(backbone="small", output_stride=8, layers=("layer9",)))
    with pytest.raises(UnknownName, match="no part 'layer9'"):
        step.ready()
