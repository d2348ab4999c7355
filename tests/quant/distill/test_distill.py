"""What distillation is made of: shapes, inheritance, subspaces, losses, rounding in place, shards, the loop."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray_workers import make_dying, make_squares
from tolerances import FP32_ROUNDING, FP32_SUMS, REST_DIVERGENCE

from medge.quant.distill import losses
from medge.quant.distill.fake_quantize import fake_quantized
from medge.quant.distill.inherit import (
    channel_energy,
    inherit_pooling_head,
    inherit_tower,
    project_text_head,
    resize_patch_kernel,
)
from medge.quant.distill.shards import PassPlan, run_pass
from medge.quant.distill.student import STUDENTS, choose_layers, operations, parse_student, student_config
from medge.quant.distill.subspace import principal_subspace
from medge.quant.distill.train import Precision, Schedule, train
from medge.quant.onnx_graph.eight_bit import quantize_columns
from medge.quant.rounding.gptq import block_grid, round_gptq
from medge.runtime.errors import DistillationError, RecipeError

VISION: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 4, "num_attention_heads": 3, "image_size": 56,
    "patch_size": 14, "num_channels": 3, "hidden_act": "gelu_pytorch_tanh",
}  # fmt: skip


def vision_tower(seed: int = 0, **changes: Any) -> Any:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    from medge.export.families.transformers_versions import vision_transformer

    torch.manual_seed(seed)
    tower = vision_transformer(SiglipVisionModel(SiglipVisionConfig(**{**VISION, **changes}))).eval()
    for parameter in tower.parameters():  # biases and norms begin at zero and one, which would hide a mistake
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    return tower.requires_grad_(False)


def pixels(count: int = 3, side: int = 56) -> Any:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


# Shapes


@pytest.mark.parametrize("spec", [*STUDENTS, "width=96,depth=3", "patch=28,depth=5"])
def test_operations_are_what_torch_counts(spec: str) -> None:
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import SiglipVisionConfig, SiglipVisionModel

    teacher = {**VISION, "hidden_size": 192, "intermediate_size": 720, "image_size": 112}
    config = student_config(parse_student(spec), teacher)
    with torch.device("meta"):
        model = SiglipVisionModel(SiglipVisionConfig(**config, attn_implementation="eager"))
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, config["image_size"], config["image_size"]))
    assert operations(config) == pytest.approx(counter.get_total_flops() / 2, rel=0.002)


def test_base_and_small_cost_what_the_issue_says() -> None:
    """The full tower to ViT-B/16 and ViT-S/16 at 224."""
    from medge.export.standin.write import FULL_CONFIG

    full = FULL_CONFIG["vision_config"]
    base, small, tiny = (operations(student_config(STUDENTS[name], full)) for name in ("base", "small", "tiny"))
    assert operations(full) / base == pytest.approx(29, abs=2)
    assert operations(full) / small > 95
    assert tiny < small / 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("huge", "names no student"),
        ("width=0", "names no student"),
        ("width=100,heads=3", "heads"),
        ("patch=13", "multiple"),
    ],
)
def test_impossible_students_are_refused_in_words(spec: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        student_config(parse_student(spec), VISION)


def test_layers_keep_the_types_of_their_places() -> None:
    def pattern(count: int) -> list[str]:
        return ["global" if layer % 6 == 5 else "local" for layer in range(count)]

    kept = choose_layers(pattern(18), pattern(9))
    assert len(kept) == 9
    assert kept == sorted(set(kept))
    assert [pattern(18)[layer] for layer in kept] == pattern(9)
    assert kept[0] == 0
    assert choose_layers(pattern(18), pattern(18)) == list(range(18))
    with pytest.raises(RecipeError, match="can't be taken"):
        choose_layers(pattern(6), pattern(12))


# Inheritance


def test_a_student_of_the_same_shape_is_the_teacher() -> None:
    teacher, student = vision_tower(0), vision_tower(1)
    energy = channel_energy(teacher, pixel_values=pixels())
    subspace = principal_subspace([np.eye(48, dtype=np.float32)], 48)
    assert inherit_tower(student, teacher, energy) == [0, 1, 2, 3]
    inherit_pooling_head(student, teacher, energy, subspace)
    torch.testing.assert_close(
        student(pixels()).pooler_output, teacher(pixels()).pooler_output, rtol=1e-4, atol=FP32_SUMS
    )


def test_channels_that_carry_nothing_are_left_out_without_loss() -> None:
    """A narrow tower, widened by channels that are always zero, comes back when a student of its width inherits."""
    narrow, wide = vision_tower(0), vision_tower(1, hidden_size=64, num_attention_heads=4, intermediate_size=96)
    for name, parameter in wide.named_parameters():
        parameter.data.zero_()
        source = dict(narrow.named_parameters())[name].data
        if "in_proj" in name:
            for part in range(3):
                corner = tuple(slice(part * 64 * (d == 0), part * 64 * (d == 0) + n // (3 if d == 0 else 1))
                               for d, n in enumerate(source.shape))  # fmt: skip
                parameter.data[corner] = source.chunk(3)[part]
        else:
            parameter.data[tuple(slice(n) for n in source.shape)] = source
    student = vision_tower(2)
    energy = channel_energy(wide, pixel_values=pixels())
    assert energy.topk(48).indices.sort().values.tolist() == list(range(48))
    inherit_tower(student, wide, energy)
    for layer, original in zip(student.encoder.layers, narrow.encoder.layers, strict=True):
        assert torch.equal(layer.self_attn.v_proj.weight, original.self_attn.v_proj.weight)
        assert torch.equal(layer.mlp.fc2.weight, original.mlp.fc2.weight)


@pytest.mark.parametrize("patch", [7, 14, 28])
def test_a_resized_kernel_says_of_resized_patches_what_the_kernel_says(patch: int) -> None:
    kernel = torch.randn(5, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(torch.rand(9, 3, 4, 4), (14, 14), mode="bilinear")
    resized = torch.nn.functional.interpolate(smooth, (patch, patch), mode="bilinear", antialias=patch < 14)
    expected = torch.einsum("ochw,nchw->no", kernel, smooth)
    found = torch.einsum("ochw,nchw->no", resize_patch_kernel(kernel, patch), resized)
    # A smaller patch can't hold all of a larger one: smooth ones nearly, and larger ones exactly.
    assert (found - expected).abs().max() < (1e-3 if patch >= 14 else 0.25) * expected.std()


def test_the_subspace_keeps_cosines_that_lie_in_it() -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((40, 6)))[0]
    groups = [(rng.standard_normal((200, 6)) @ basis.T).astype(np.float32) for _ in range(2)]
    groups = [g / np.linalg.norm(g, axis=1, keepdims=True) for g in groups]
    subspace = principal_subspace(groups, 6)
    assert subspace.kept == pytest.approx(1, abs=FP32_ROUNDING)
    np.testing.assert_allclose(subspace.rows @ subspace.rows.T, np.eye(6), atol=FP32_ROUNDING)
    images, texts = (subspace.project(group) for group in groups)
    np.testing.assert_allclose(images @ texts.T, groups[0] @ groups[1].T, atol=FP32_SUMS)
    assert principal_subspace(groups, 3).kept < 0.9
    assert np.array_equal(principal_subspace(groups, 40).rows, np.eye(40))


def test_a_projected_text_head_gives_the_projected_embedding() -> None:
    head = torch.nn.Linear(12, 20)
    subspace = principal_subspace([np.random.default_rng(0).standard_normal((50, 20)).astype(np.float32)], 7)
    x = torch.randn(4, 12)
    expected = subspace.project(head(x).detach().numpy())
    found = torch.nn.functional.normalize(project_text_head(head, subspace)(x), dim=-1)
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=FP32_ROUNDING)


# Losses


def test_regression_and_relations_are_shares_of_variance() -> None:
    teacher = torch.nn.functional.normalize(torch.randn(30, 8), dim=-1)
    mean = teacher.mean(0)
    for loss in (losses.regression, losses.relational):
        assert loss(teacher, teacher, mean) == pytest.approx(0, abs=1e-9)
        assert loss(mean.expand(30, -1), teacher, mean) == pytest.approx(1, abs=FP32_SUMS)
    turned = torch.linalg.qr(torch.randn(8, 8))[0]
    assert losses.relational((teacher - mean) @ turned + mean, teacher, mean) == pytest.approx(0, abs=FP32_SUMS)
    assert losses.regression((teacher - mean) @ turned + mean, teacher, mean) > 0.1


def test_contrastive_loss_prefers_the_own_caption() -> None:
    texts = torch.nn.functional.normalize(torch.randn(5, 8), dim=-1)
    same, scale, bias = torch.eye(5, dtype=torch.bool), torch.tensor(20.0), torch.tensor(-5.0)
    assert losses.contrastive(texts, texts, same, scale, bias) < losses.contrastive(
        texts.roll(1, 0), texts, same, scale, bias
    )


@pytest.mark.parametrize("kind", ["forward", "reverse", "skewed"])
def test_divergence_of_all_tokens_is_the_exact_one(kind: Any) -> None:
    student, teacher = torch.randn(6, 9, dtype=torch.float64), torch.randn(6, 9, dtype=torch.float64)
    log, ids = teacher.log_softmax(-1).sort(descending=True)
    p, q = teacher.softmax(-1), student.softmax(-1)
    second = losses.SKEW * p + (1 - losses.SKEW) * q
    exact = {
        "forward": p * (p / q).log(), "reverse": q * (q / p).log(), "skewed": p * (p / second).log(),
    }[kind].sum(-1).mean()  # fmt: skip
    assert losses.top_k_divergence(student, ids, log, kind) == pytest.approx(float(exact), abs=REST_DIVERGENCE)
    assert losses.top_k_divergence(teacher, ids, log, kind) == pytest.approx(0, abs=FP32_SUMS)


@pytest.mark.parametrize("kind", ["forward", "reverse", "skewed"])
def test_divergence_minds_what_the_teacher_was_not_recorded_for(kind: Any) -> None:
    teacher = torch.randn(4, 50) * 2
    log, ids = teacher.log_softmax(-1).topk(5)
    student = teacher.clone().requires_grad_(True)
    losses.top_k_divergence(student, ids, log, kind).backward()
    assert student.grad is not None
    assert student.grad.abs().max() < REST_DIVERGENCE  # the teacher itself is a minimum
    cheat = teacher.clone()
    cheat[:, int(teacher[0].argmin())] += 20  # mass where nothing was recorded
    assert losses.top_k_divergence(cheat, ids, log, kind) > 0.5


# Rounding in place


def test_four_bit_rounding_in_place_is_what_the_exporter_finds_again() -> None:
    torch.manual_seed(0)
    tower = vision_tower(0, hidden_size=96, intermediate_size=144, num_attention_heads=3)
    before = tower.encoder.layers[0].mlp.fc1.weight.clone()
    with fake_quantized(tower, "int4"):
        inside = tower.encoder.layers[0].mlp.fc1.weight.detach().clone()
    for layer in (tower.encoder.layers[0].mlp.fc1, tower.encoder.layers[1].self_attn.q_proj):
        weight = layer.weight.detach().numpy().T.copy()  # (K, N)
        scale, zero = block_grid(weight, 32, np.ones(len(weight), np.float32))
        levels = round_gptq(weight, np.eye(len(weight), dtype=np.float32), scale, zero, 32).astype(np.float32)
        shape = (len(weight) // 32, 32, -1)
        back = ((levels.reshape(shape) - zero[:, None]) * scale[:, None]).reshape(weight.shape)
        np.testing.assert_allclose(back, weight, atol=FP32_ROUNDING)
    assert torch.equal(inside, tower.encoder.layers[0].mlp.fc1.weight)
    assert not torch.equal(before, inside)


def test_eight_bit_rounding_in_place_is_the_recipes_and_goes_away() -> None:
    tower = vision_tower(0)
    layer = tower.encoder.layers[0].self_attn.q_proj
    before = layer.weight.clone()
    with fake_quantized(tower, "int8"):
        inside = layer.weight.detach().numpy()
    values, scale, zero = quantize_columns(before.numpy().T.copy(), signed=False)
    np.testing.assert_allclose(
        inside.T, (values.astype(np.float32) - zero.astype(np.float32)) * scale, atol=FP32_ROUNDING
    )
    assert torch.equal(layer.weight, before)


def test_gradients_pass_through_the_rounding() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(32, 4))
    with fake_quantized(layer, "int4"):
        layer(torch.randn(5, 32)).square().sum().backward()
        assert float(layer[0].parametrizations.weight.original.grad.abs().sum()) > 0


# Shards


def test_a_pass_goes_on_where_it_was(tmp_path: Path) -> None:
    plan = PassPlan(tmp_path / "shards", 11, 3, {"teacher": "a"})
    log = tmp_path / "log"
    found = run_pass(plan, lambda: make_squares(log))
    assert found.skipped == (5,)
    assert len(found) == 10
    assert found.rows("square", [9, 0, 5]).tolist() == [100, 0, 36]
    assert found.all("square").tolist() == [n**2 for n in range(11) if n != 5]
    import shutil

    shutil.rmtree(plan.place(6))
    log.unlink()
    assert run_pass(plan, lambda: make_squares(log)).all("square").tolist() == found.all("square").tolist()
    assert log.read_text().split() == ["6"]


def test_shards_of_another_teacher_are_not_mixed_in(tmp_path: Path) -> None:
    run_pass(PassPlan(tmp_path, 3, 3, {"teacher": "a"}), lambda: make_squares(tmp_path / "log"))
    with pytest.raises(DistillationError, match="--work"):
        run_pass(PassPlan(tmp_path, 3, 3, {"teacher": "b"}), lambda: make_squares(tmp_path / "log"))


def test_a_ray_cluster_that_is_not_there_is_said_so_at_once(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="pip install 'medge[ray]'")
    plan = PassPlan(tmp_path / "shards", 11, 3, {})
    with pytest.raises(DistillationError, match=r"Ray can't be reached at 127\.0\.0\.1:1: .*refused"):
        run_pass(plan, partial(make_dying, tmp_path / "log", -1), engine="ray", address="127.0.0.1:1")


@pytest.mark.parametrize(
    ("workers", "advice"),
    [(3, r"ask for fewer than 3 processes \(--workers\), or do it without Ray \(--engine local\)"),
     (1, r"do it without Ray \(--engine local\)")],
)  # fmt: skip
def test_a_ray_that_does_not_start_in_time_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, advice: str
) -> None:
    ray = pytest.importorskip("ray", reason="pip install 'medge[ray]'")

    def init(**options: Any) -> None:
        assert options["num_cpus"] == workers
        raise Exception("The current node timed out during startup. This\ncould happen.")  # as Ray's own

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    plan = PassPlan(tmp_path / "shards", 11, 3, {})
    said = r"^Ray did not start on this machine: The current node timed out during startup\. This could happen; "
    with pytest.raises(DistillationError, match=f"{said}{advice}$"):
        run_pass(plan, partial(make_dying, tmp_path / "log", -1), engine="ray", workers=workers)


@pytest.mark.usefixtures("local_ray")
def test_a_ray_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    plan = PassPlan(tmp_path / "shards", 11, 3, {})
    found = run_pass(plan, partial(make_dying, log, -1), engine="ray", workers=2)
    assert (tmp_path / "died").exists()
    assert found.all("square").tolist() == [n**2 for n in range(11) if n != 5]
    assert found.skipped == (5,)


@pytest.mark.usefixtures("local_ray")
def test_a_shard_that_kills_every_ray_worker_ends_in_words(tmp_path: Path) -> None:
    plan = PassPlan(tmp_path / "shards", 11, 3, {})
    with pytest.raises(
        DistillationError,
        match="of 4 shards to do: items 6 to 8 ended 4 workers.*; the same command goes on from there",
    ):
        run_pass(plan, partial(make_dying, tmp_path / "log", 6), engine="ray", workers=2)
    assert 6 in plan.missing()
    assert len(run_pass(plan, lambda: make_squares(tmp_path / "log"))) == 10


# The loop


class Line:
    """Learn y = 3 x; can be told to stop, or to give no number."""

    def __init__(self, poison: int = -1, stop: int = -1) -> None:
        self.x = torch.linspace(-1, 1, 40)[:, None]
        self.poison, self.stop = poison, stop

    def __len__(self) -> int:
        return len(self.x)

    def terms(self, model: Any, rows: Any, step: int) -> dict[str, Any]:
        if step == self.stop:
            raise KeyboardInterrupt
        loss = (model(self.x[rows]) - 3 * self.x[rows]).square().mean()
        return {"error": loss * (float("nan") if step == self.poison else 1.0)}

    def held_back(self, model: Any) -> dict[str, float]:
        return {"slope": float(model(torch.ones(1, 1)) - model(torch.zeros(1, 1)))}


def line_model() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.GELU(), torch.nn.Linear(8, 1))


SCHEDULE = Schedule(steps=60, batch=8, rate=0.05, save_every=7)


@pytest.mark.parametrize("stop", [3, 7, 20, 59])
def test_going_on_ends_with_the_same_weights_and_curve(tmp_path: Path, stop: int) -> None:
    whole = line_model()
    curve = train(whole, Line(), SCHEDULE, tmp_path / "whole", {}, cpu=True)
    with pytest.raises(KeyboardInterrupt):
        train(line_model(), Line(stop=stop), SCHEDULE, tmp_path / "parts", {}, cpu=True)
    rest = line_model()
    again = train(rest, Line(), SCHEDULE, tmp_path / "parts", {}, cpu=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name
    assert json.dumps(curve.rows) == json.dumps(again.rows)
    assert curve.rows[-1]["held_back_slope"] == pytest.approx(
        3, abs=0.3
    )  # sixty steps come near y = 3 x; untrained it is near 0


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DistillationError, match=r"step 30: the loss is nan.*step-28"):
        train(line_model(), Line(poison=30), SCHEDULE, tmp_path, {}, cpu=True)
    state = torch.load(tmp_path / "step-28" / "state.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state["model"].values())
    assert len(list(tmp_path.iterdir())) == 2


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    train(line_model(), Line(), SCHEDULE, tmp_path, {"teacher": "a"}, cpu=True)
    with pytest.raises(DistillationError, match="other data or settings"):
        train(line_model(), Line(), SCHEDULE, tmp_path, {"teacher": "b"}, cpu=True)


def test_gradients_add_up_to_those_of_a_larger_batch(tmp_path: Path) -> None:
    large, small = line_model(), line_model()
    train(large, Line(), Schedule(steps=20, batch=8, rate=0.01), tmp_path / "a", {}, cpu=True)
    train(small, Line(), Schedule(steps=20, batch=2, accumulate=4, rate=0.01), tmp_path / "b", {}, cpu=True)
    for name, value in large.state_dict().items():
        torch.testing.assert_close(
            value, small.state_dict()[name], rtol=1e-3, atol=1e-4
        )  # Adam divides by a gradient's size: small ones' rounding grows over 20 steps


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_weights_that_stay_in_32_bits(tmp_path: Path, precision: Precision) -> None:
    model = line_model()
    curve = train(model, Line(), Schedule(steps=60, batch=8, rate=0.05, precision=precision), tmp_path, {}, cpu=True)
    assert model[0].weight.dtype == torch.float32
    assert curve.rows[-1]["held_back_slope"] == pytest.approx(3, abs=0.4)  # as above, with gradients of 8 or 11 bits
