"""The stand-in's data, captions, losses and training run, on invented pictures."""

from __future__ import annotations

import csv
import io
import json
import random
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medge.runtime.errors import MedgeError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from medge.export.standin.medsiglip.architecture import CONFIG  # noqa: E402
from medge.export.standin.medsiglip.augment import PART, SPECIMEN, WHOLE, cut, false_colours, shade  # noqa: E402
from medge.export.standin.medsiglip.batches import Sampler, ask  # noqa: E402
from medge.export.standin.medsiglip.cache import Cache, counts, licences, write_cache  # noqa: E402
from medge.export.standin.medsiglip.evaluate import Judge, training, validation  # noqa: E402
from medge.export.standin.medsiglip.losses import feature_loss, question_loss, sigmoid_loss  # noqa: E402
from medge.export.standin.medsiglip.model import build, image_embeddings  # noqa: E402
from medge.export.standin.medsiglip.packed import unpack  # noqa: E402
from medge.export.standin.medsiglip.sources import Picture, all_pictures, domain_pictures, facts_of, ships  # noqa: E402
from medge.export.standin.medsiglip.teacher import WIDTH, ViewSampler, view_picture, views, write_features  # noqa: E402
from medge.export.standin.medsiglip.train import EOS, UNKNOWN, Phase, Recipe, Run, with_fillers  # noqa: E402
from medge.export.standin.medsiglip.words import (  # noqa: E402
    QUESTIONS,
    WORDS,
    Caption,
    draw,
    every_text,
    prompts,
    relation,
    values,
)


def _archive(path: Path, rows: list[dict[str, str]], size: tuple[int, int] = (20, 30)) -> Path:
    table = io.StringIO()
    writer = csv.DictWriter(table, ["file", "class", "group", "source", "licence", "extra"])
    writer.writeheader()
    writer.writerows([{"source": "", "extra": "", **row} for row in rows])
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w") as tar:
        contents = {"labels.csv": table.getvalue().encode()}
        for row in rows:
            stream = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(stream, "JPEG")
            contents[row["file"]] = stream.getvalue()
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Films and cells, sixty each, in patients of three, twelve of them for tests."""
    rng = np.random.default_rng(1)
    pictures = []
    for domain, labels in {
        "cxr_pneumonia": ("normal", "bacterial_pneumonia", "viral_pneumonia"),
        "cells_blood": ("basophil", "monocyte", "platelet"),
    }.items():
        for number in range(60):
            label, split = labels[number % 3], "test" if number >= 54 else "train"
            shape = (24, 28) if domain == "cxr_pneumonia" else (24, 28, 3)
            pictures.append(
                Picture(
                    domain, f"{number}.jpg", label, f"patient{number // 3}", split, "CC BY 4.0", True,
                    facts_of(domain, label, {}), rng.integers(0, 256, shape, np.uint8),
                )
            )  # fmt: skip
    return write_cache(pictures, tmp_path_factory.mktemp("standin") / "cache")


@pytest.fixture(scope="module")
def tokenizer():
    return unpack()[1]


TINY = {
    **CONFIG,
    "vision_config": {**CONFIG["vision_config"], "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 32,
                      "num_hidden_layers": 2, "image_size": 28, "patch_size": 7},
    "text_config": {**CONFIG["text_config"], "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32,
                    "num_hidden_layers": 1, "projection_size": 24},
}  # fmt: skip
RECIPE = replace(
    Recipe(), phases=(Phase(14, 1.0, 6, 2, 3), Phase(28, 0.5, 6, 2)), warm_up=2, config=TINY,
    mix={"cxr_pneumonia": 1, "cells_blood": 1},
)  # fmt: skip


class Means:
    """In place of a teacher: says of each picture how light it is, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def features(self, pictures: np.ndarray) -> np.ndarray:
        self.asked += len(pictures)
        return np.repeat(pictures.mean((1, 2, 3))[:, None] / 255, WIDTH, 1).astype(np.float16)


@pytest.fixture(scope="module")
def taught(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of all views of the cache."""
    place = tmp_path_factory.mktemp("standin")
    (place / "model.onnx").write_bytes(b"means")
    write_features(cache, Means(), place / "model.onnx", place / "teacher")
    return place / "teacher"


def test_readers_tell_licence_split_patient_and_what_is_known(tmp_path: Path) -> None:
    found = list(
        domain_pictures(
            _archive(
                tmp_path / "cxr_covid.tar",
                [
                    {"file": "train/covid19/a.jpg", "class": "covid19", "group": "p1", "licence": "CC BY 4.0"},
                    {"file": "test/covid19/b.jpg", "class": "covid19", "group": "", "licence": "CC BY-NC-SA 4.0"},
                ],
            )
        )
    )
    assert [(picture.split, picture.group, picture.ships) for picture in found] == [
        ("train", "p1", True), ("test", "test/covid19/b.jpg", False),
    ]  # fmt: skip
    assert found[0].facts["infection"] == "covid"
    assert found[0].facts["breast"] == "never"  # no film shows a breast lesion
    assert found[0].image.shape == (20, 30)


@pytest.mark.parametrize(
    ("domain", "licence", "allowed"),
    [
        ("cells_blood", "CC BY 4.0", True), ("derm_ham10000", "CC BY-NC 4.0", False), ("ct_kidney", "CC0", False),
        ("us_lung_pocus", "CC BY 4.0", True), ("us_lung_pocus", "CC BY-NC 4.0", False),
        ("cxr_covid", "listed as authorized for everyone", False), ("fundus_disease", "CC BY 4.0", False),
    ],
)  # fmt: skip
def test_only_free_pictures_ship(domain: str, licence: str, allowed: bool) -> None:
    assert ships(domain, licence) is allowed


def test_nih_labels_become_findings() -> None:
    facts = facts_of("cxr_nih", "finding", {"Finding Labels": "Effusion|Hernia"})
    assert (facts["film"], facts["effusion"], facts["nodule"]) == ("abnormal", "yes", "no")
    assert "pneumonia" not in facts  # not named is not the same as not there
    assert facts_of("derm_ham10000", "mel", {}) == {}


def test_long_pictures_are_shrunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "domains").mkdir()
    row = {"file": "test/adi/a.jpg", "class": "adi", "group": "", "licence": "CC BY 4.0"}
    _archive(tmp_path / "domains" / "histo_crc.tar", [row], (40, 80))
    monkeypatch.setattr("medge.export.standin.medsiglip.sources.grey_sets", lambda data: iter(()))
    assert [picture.image.shape for picture in all_pictures(tmp_path, longest=20)] == [(10, 20)]


def test_cache_gives_back_pixels_and_keeps_patients_together(cache: Cache) -> None:
    assert cache.image(0).shape == (24, 28)
    assert cache.image(70).shape == (24, 28, 3)
    groups: dict[tuple[str, str], set[str]] = {}
    for row in cache.rows:
        groups.setdefault((row.domain, row.group), set()).add(row.split)
    assert all(len(splits) == 1 for splits in groups.values())
    assert {row.split for row in cache.rows} == {"train", "val", "test"}
    assert {sum(parts.values()) for parts in counts(cache).values()} == {60}
    assert {parts["test"] for parts in counts(cache).values()} == {6}
    assert licences(cache) == {domain: ["CC BY 4.0"] for domain in counts(cache)}


def test_a_training_picture_that_looks_like_a_test_picture_is_a_leak(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    large = rng.integers(0, 256, (8, 8), np.uint8).repeat(12, 0).repeat(12, 1)
    other = rng.integers(0, 256, (96, 96), np.uint8)
    lighter = (large[::2, ::2] * 0.8 + 20).astype(np.uint8)
    facts = facts_of("cxr_pneumonia", "normal", {})
    pictures = [
        Picture("cxr_pneumonia", name, "normal", name, split, "CC BY 4.0", True, facts, image)
        for name, split, image in (("a", "train", lighter), ("b", "train", other), ("c", "test", large))
    ]
    written = write_cache(pictures, tmp_path / "cache")
    assert written.rows[0].split == "leak"
    assert written.rows[1].split in ("train", "val")
    assert written.rows[2].split == "test"


def test_held_out_wordings_are_never_drawn() -> None:
    rng = random.Random(0)
    for question, what in QUESTIONS.items():
        held = {text for answer in values(question) for text in prompts(question, answer)}
        drawn = {draw(question, answer, rng).text for answer in values(question) for _ in range(60)}
        assert held
        assert not held & drawn, question
        assert not held & set(every_text()), question
        assert not set(what.trained) & set(what.held_out)


def test_no_caption_gives_two_answers_and_words_alone_answer_one_question() -> None:
    rng = random.Random(1)
    for question in QUESTIONS:
        texts: dict[str, tuple[tuple[str, str], ...]] = {}
        for answer in values(question):
            for _ in range(80):
                caption = draw(question, answer, rng)
                assert texts.setdefault(caption.text, answer) == answer
                others = [key for key in WORDS if key not in dict(answer)]
                alone = any(caption.text in words for key in others for words in WORDS[key].values())
                assert not alone, caption


def test_only_words_of_captions_are_learned(tokenizer) -> None:
    words = {token for encoding in tokenizer.encode_batch(every_text()) for token in encoding.ids}
    table = build(TINY, 0, sorted(words)).text_model.embeddings.token_embedding.weight
    assert set(table.abs().sum(1).nonzero().flatten().tolist()) == words
    rng = random.Random(2)
    texts = set(every_text())
    assert all(draw(question, answer, rng).text in texts for question in QUESTIONS for answer in values(question))


def test_relation_is_true_false_or_unknown() -> None:
    facts = facts_of("cxr_covid", "other_pneumonia", {})
    caption = Caption("", "infection", (("infection", "covid"),))
    assert relation(facts, caption) == 0
    assert relation({**facts, "infection": "viral"}, caption) == -1
    assert relation({**facts, "infection": "covid"}, caption) == 1
    assert relation({"modality": "us"}, Caption("", "kind", (("modality", "ct"), ("part", "head")))) == -1
    assert relation({"modality": "us"}, Caption("", "kind", (("modality", "us"), ("part", "head")))) == 0


def test_two_pictures_of_one_caption_are_no_negatives() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    sigmoid_loss(logits, torch.tensor([[1, -1], [1, 0]])).backward()
    assert logits.grad is not None
    assert (logits.grad[:, 0] < 0).all()  # both are drawn to it
    assert logits.grad[0, 1] > 0
    assert logits.grad[1, 1] == 0  # unknown


def test_positives_and_negatives_weigh_alike() -> None:
    logits = torch.tensor([[0.3, -0.2, 0.7, 9.0]])
    loss = sigmoid_loss(logits, torch.tensor([[1, -1, -1, 0]]))
    softplus = torch.nn.functional.softplus
    assert torch.isclose(loss, softplus(-logits[0, 0]) + softplus(logits[0, 1:3]).mean())


def test_question_loss_is_cross_entropy_with_shared_positives() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.5, 3.0], [0.1, 0.2, 0.3, 9.0]])
    relations = torch.tensor([[1, 1, -1, 1], [-1, -1, 0, 1]])
    # The first question: of the first picture two captions are true, of the second none is known to be; the second
    # question has no false caption and asks nothing.
    expected = -torch.log(logits[0, :2].exp().sum() / logits[0, :3].exp().sum())
    assert torch.isclose(question_loss(logits, relations, ["a", "a", "a", "b"]), expected)


@pytest.mark.parametrize("how", [WHOLE, SPECIMEN, PART])
def test_cuts_have_the_size_and_stay_inside(how) -> None:
    image = np.full((40, 60), 200, np.uint8)
    rng = random.Random(0)
    found = np.stack([cut(image, 14, how, rng) for _ in range(20)])
    assert found.shape == (20, 14, 14, 3)
    assert (found == 200).mean() > 0.75  # most of a cut is picture
    shaded = np.stack([shade(part, rng) for part in found])
    assert shaded.shape == (20, 3, 14, 14)
    assert shaded.min() >= -1
    assert shaded.max() <= 1
    assert len({float(part.mean()) for part in shaded}) == 20


def test_batches_follow_from_seed_and_step_and_hold_training_pictures_only(cache: Cache) -> None:
    sampler = Sampler(cache, {"cxr_pneumonia": 2, "cells_blood": 1, "absent": 5}, 7)
    drawn = [index for pools in sampler.pools.values() for pool in pools.values() for index in pool]
    assert {cache.rows[index].split for index in drawn} == {"train"}
    first, again, other = sampler.batch(3, 6, 14), sampler.batch(3, 6, 14), sampler.batch(4, 6, 14)
    assert torch.equal(first.pixels, again.pixels)
    assert first.texts == again.texts
    assert not torch.equal(first.pixels, other.pixels)
    assert len(set(first.texts)) == len(first.texts)
    assert first.relations.shape == (6, len(first.texts))


def test_only_questions_that_a_picture_answers_are_asked() -> None:
    asked = {caption.question for caption in ask([facts_of("cells_blood", "monocyte", {})], random.Random(0))}
    assert "cell" in asked
    assert len(asked) == 2
    assert asked < {"kind", "modality", "organ", "cell"}


def test_leaving_no_patch_out_is_the_model_itself() -> None:
    from medge.export.families.transformers_versions import features

    model = build(TINY, 0).eval()
    pixels = torch.rand(2, 3, 28, 28) * 2 - 1
    with torch.no_grad():
        whole = torch.nn.functional.normalize(features(model.get_image_features(pixels)), dim=-1)
        assert torch.allclose(image_embeddings(model, pixels), whole, atol=1e-6)
        half = image_embeddings(model, pixels, 0.5, torch.Generator().manual_seed(0))
        assert half.shape == whole.shape
        assert not torch.allclose(half, whole, atol=1e-3)
        assert image_embeddings(model, pixels[..., :14, :14]).shape == whole.shape


def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    cache: Cache, tokenizer, taught: Path, tmp_path: Path
) -> None:  # fmt: skip
    whole = Run(cache, tokenizer, tmp_path / "whole", RECIPE, taught)
    assert whole.go()
    first = Run(cache, tokenizer, tmp_path / "parts", RECIPE, taught)
    ticks = iter(range(100))
    assert not first.go(minutes=5 / 60, clock=lambda: next(ticks))  # seconds that pass as the clock is asked
    assert 0 < first.step < RECIPE.steps
    with pytest.raises(MedgeError, match=f"at step {first.step} of {RECIPE.steps}"):
        training(tmp_path / "parts")
    first.record(pairs=0.0)
    first.step += 1
    first.record(pairs=0.0)  # logged after the checkpoint: it is done again
    second = Run(cache, tokenizer, tmp_path / "parts", RECIPE, taught)
    assert second.go()
    for mine, theirs in (
        (second.model.state_dict(), whole.model.state_dict()),
        (second.average.state, whole.average.state),
    ):
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    steps = [json.loads(line)["step"] for line in second.log.read_text().splitlines()]
    assert steps == sorted(set(steps))
    state, _ = unpack(second.finish())  # what is packed is the mean of the weights, in 16 bits
    assert state.keys() == {name for name in second.average.state if not name.endswith("position_ids")}
    for name, array in state.items():
        assert np.allclose(array, second.average.state[name].numpy(), rtol=1e-3, atol=1e-6), name
    told = training(tmp_path / "parts")
    assert (told["seed"], told["steps"], told["pictures"]) == (RECIPE.seed, RECIPE.steps, cache.digest)
    assert told["minutes"] == round(second.seconds / 60, 1)


def test_another_recipe_does_not_go_on(cache: Cache, tokenizer, taught: Path, tmp_path: Path) -> None:
    Run(cache, tokenizer, tmp_path, RECIPE, taught).save()
    with pytest.raises(MedgeError, match="another recipe"):
        Run(cache, tokenizer, tmp_path, replace(RECIPE, rate=1.0), taught)


def test_a_recipe_with_views_needs_a_teacher(cache: Cache, tokenizer, tmp_path: Path) -> None:
    with pytest.raises(MedgeError, match="--teacher"):
        Run(cache, tokenizer, tmp_path, RECIPE)


def test_other_processes_prepare_the_same_pictures(cache: Cache, tokenizer, taught: Path, tmp_path: Path) -> None:
    alone = Run(cache, tokenizer, tmp_path / "alone", RECIPE, taught)
    helped = Run(cache, tokenizer, tmp_path / "helped", RECIPE, taught, workers=2)
    for mine, theirs in zip(alone.coming(), helped.coming(), strict=True):
        assert torch.equal(mine.batch.pixels, theirs.batch.pixels)
        assert torch.equal(mine.views, theirs.views)
        assert mine.batch.texts == theirs.batch.texts


def test_words_that_no_caption_has_stay_zero(cache: Cache, tokenizer, taught: Path, tmp_path: Path) -> None:
    run = Run(cache, tokenizer, tmp_path, replace(RECIPE, fillers=1.0), taught)
    assert run.go()
    table = run.model.text_model.embeddings.token_embedding.weight
    assert table[UNKNOWN].abs().sum() == 0
    assert set(table.abs().sum(1).nonzero().flatten().tolist()) == set(run.words)


def test_fillers_stand_among_the_words_and_change_nothing_else() -> None:
    caption = [7, 8, 9, EOS, EOS, EOS, EOS, EOS]
    found = with_fillers([caption] * 200, 0.5, 3)
    assert found == with_fillers([caption] * 200, 0.5, 3)
    assert 60 < sum(UNKNOWN in one for one in found) < 140
    for one in found:
        assert len(one) == len(caption)
        assert [token for token in one if token not in (UNKNOWN, EOS)] == [7, 8, 9]
        assert max(place for place, token in enumerate(one) if token != EOS) <= 5


def test_views_are_training_pictures_and_stay_the_same(cache: Cache) -> None:
    found = views(cache)
    assert {cache.rows[index].split for index, _ in found} == {"train"}
    assert len(found) == len(set(found))
    first = view_picture(cache, found[0])
    assert np.array_equal(first, view_picture(cache, found[0]))
    assert not np.array_equal(first, view_picture(cache, found[1]))


def test_features_go_on_where_they_stopped(cache: Cache, taught: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"means")
    teacher = Means()

    class Stopped(Exception):
        pass

    def stop(what: str, done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        write_features(cache, teacher, model, tmp_path / "parts", stop)
    with pytest.raises(MedgeError, match="no finished features"):
        ViewSampler(cache, tmp_path / "parts", 0)
    found = write_features(cache, teacher, model, tmp_path / "parts")
    assert teacher.asked == len(found)
    assert np.array_equal(found, np.load(taught / "features.npy"))
    model.write_bytes(b"another")
    with pytest.raises(MedgeError, match="another model"):
        write_features(cache, teacher, model, tmp_path / "parts")


def test_a_view_has_the_feature_of_that_view(cache: Cache, taught: Path) -> None:
    sampler = ViewSampler(cache, taught, 5)
    pictures, targets = sampler.batch(2, 4, 14)
    assert pictures.shape == (4, 3, 14, 14)
    light = np.array([view_picture(cache, view).mean() for view in sampler.views])
    scaled = (light - light.mean()) / light.std()
    assert abs(sampler.features.mean()) < 1e-3
    assert np.allclose(sampler.features[:, 0], scaled, atol=0.02)  # 16 bits of features that differ little
    assert all(np.any(np.isclose(scaled, target[0], atol=0.02)) for target in targets)


def test_false_colours_keep_the_shape_of_what_is_seen() -> None:
    rng = random.Random(0)
    grey = np.repeat((np.random.default_rng(0).random((16, 16, 1)) * 255).astype(np.uint8), 3, 2)
    coloured = [false_colours(grey, rng) for _ in range(20)]
    assert all(one.shape == grey.shape and one.dtype == np.uint8 for one in coloured)
    alike = [abs(np.corrcoef(one[..., 1].ravel(), grey[..., 0].ravel())[0, 1]) for one in coloured]
    assert min(alike) > 0.99
    assert max(np.abs(one[..., 0].astype(int) - one[..., 2]).mean() for one in coloured) > 20


def test_feature_loss_is_one_for_the_means_and_nothing_without_views() -> None:
    targets = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    assert feature_loss(torch.zeros(2, 2), targets) == 1
    found = torch.zeros(0, 2, requires_grad=True)
    assert feature_loss(found, torch.zeros(0, 2)) == 0


def test_validation_gives_a_figure_for_each_domain_with_pictures(cache: Cache, tokenizer) -> None:
    found = validation(Judge(build(TINY, 0), tokenizer, cache))
    assert found.keys() == {"cxr_pneumonia", "cells_blood", "mean", "kind"}
    assert all(0 <= value <= 1 for value in found.values())
