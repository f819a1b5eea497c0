"""Batches, many targets, checkpointing and bands change the cost of a map and not its numbers."""

from __future__ import annotations

import pytest
import torch

from medgemma_tasks.errors import InvalidRequest
from medgemma_worker.relevancy import banded, memory, visibility
from medgemma_worker.relevancy.attention import install
from medgemma_worker.relevancy.explain import Passage, embed, explain
from medgemma_worker.relevancy.methods import METHODS
from medgemma_worker.relevancy.retained import retained_layers
from tests.worker.tiny import Tiny, tiny_case, tiny_model


def passage_of(case: Tiny) -> Passage:
    embeddings = embed(case.model, case.ids, case.kinds, case.pixels)
    runs = torch.nonzero(torch.diff(case.kinds[0], prepend=torch.tensor([0]))).flatten().tolist()
    return Passage(
        embeddings,
        case.kinds,
        case.ids[0],
        images=tuple(zip(runs[::2], runs[1::2], strict=True)),
        answer_first=case.prompt_length,
    )


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@pytest.fixture(params=[4096, 24], ids=["wide", "windowed"])
def model(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    model = tiny_model(window=request.param)
    install(model)
    return model


def test_a_batch_gives_what_each_gives_alone(model) -> None:  # type: ignore[no-untyped-def]
    passages = [passage_of(tiny_case(model, images=n, seed=n, answer=3 + n)) for n in (0, 1, 2, 4)]
    targets = [[(p.token_ids.numel() - 2, p.token_ids.numel() - 1)] for p in passages]
    together = explain(model, passages, targets)
    for passage, target, found in zip(passages, targets, together, strict=True):
        alone = explain(model, [passage], [target])[0][0]
        assert found[0].gained.shape == alone.gained.shape
        assert gap(found[0].gained, alone.gained) <= 1e-5
        assert gap(found[0].attention, alone.attention) <= 1e-5
        assert (found[0].checked, found[0].misses) == (alone.checked, alone.misses)


@pytest.mark.parametrize("room", [memory.KEPT_ATTENTION, 0], ids=["kept", "recomputed"])
def test_many_targets_in_one_pass_give_what_each_gives_alone(model, monkeypatch, room) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(memory, "KEPT_ATTENTION", room)
    passage = passage_of(tiny_case(model, images=1))
    end = passage.token_ids.numel()
    targets = [(end - 6,), (end - 5, end - 4), (end - 1,), tuple(range(end - 6, end))]
    for target, found in zip(targets, explain(model, [passage], [targets])[0], strict=True):
        alone = explain(model, [passage], [[target]])[0][0]
        assert found.own == alone.own
        assert gap(found.gained, alone.gained) <= 1e-5


def test_checkpointing_changes_no_number(model) -> None:  # type: ignore[no-untyped-def]
    passage = passage_of(tiny_case(model, images=2))
    end = passage.token_ids.numel()
    targets = [[(end - 1,), (end - 3, end - 2)]]
    plain = explain(model, [passage], targets)[0]
    saved = explain(model, [passage], targets, checkpoint=True)[0]
    for a, b in zip(saved, plain, strict=True):
        assert gap(a.gained, b.gained) <= 1e-5
        assert gap(a.attention, b.attention) <= 1e-5
    assert not any(layer.training for layer in model.model.language_model.layers)


@pytest.mark.parametrize("kept", [True, False], ids=["mask kept", "mask never whole"])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_blocks_of_rows_give_what_one_dense_mask_gives(
    model,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
    kept: bool,
    checkpoint: bool,
) -> None:
    passages = [passage_of(tiny_case(model, images=n, seed=n)) for n in (1, 3)]
    ends = [p.token_ids.numel() for p in passages]
    targets = [[(end - 1,), (end - 4, end - 3)] for end in ends]
    dense = explain(model, passages, targets)
    monkeypatch.setattr(visibility, "DENSE_LENGTH", 4096 if kept else 4)
    monkeypatch.setattr(banded, "WHOLE_LENGTH", {"cpu": 4})
    monkeypatch.setattr(banded, "BLOCK_ROWS", {"cpu": 16})
    blocks = explain(model, passages, targets, checkpoint=checkpoint)
    for of_blocks, of_dense in zip(blocks, dense, strict=True):
        for a, b in zip(of_blocks, of_dense, strict=True):
            assert gap(a.gained, b.gained) <= 1e-5


def test_every_method_is_what_its_source_says(model) -> None:  # type: ignore[no-untyped-def]
    """Held against matrices, on attention and gradients that transformers itself retained."""
    passage = passage_of(tiny_case(model, images=1))
    end = passage.token_ids.numel()
    positions = (end - 3, end - 1)
    length = positions[-1]
    found = explain(model, [passage], [[positions]], methods=list(METHODS))[0][0].rows
    layers = retained_layers(
        model,
        passage.embeddings[:, :length],
        passage.kinds[:, :length],
        passage.token_ids,
        positions,
    )
    kinds = model.config.text_config.layer_types
    weights = torch.zeros(length)
    weights[[p - 1 for p in positions]] = 0.5
    identity = torch.eye(length)

    def chain(matrices):  # type: ignore[no-untyped-def]
        product = identity
        for matrix in matrices:
            product = matrix @ product
        return weights @ product

    wide = [layer for layer, kind in zip(layers, kinds, strict=True) if kind == "full_attention"]
    mean = [layer.attention.mean(dim=0) for layer in layers]
    expected = {
        "chefer": chain([identity + layer.relevancy for layer in layers]) - weights,
        "chefer-global": chain([identity + layer.relevancy for layer in wide]) - weights,
        "own-row": sum(weights @ layer.relevancy for layer in layers),
        "attention-last": weights @ mean[-1],
        "attention-global": sum(weights @ w.attention.mean(dim=0) for w in wide) / len(wide),
        "attention-all": sum(weights @ m for m in mean) / len(mean),
        "rollout": chain([(identity + m) / 2 for m in mean]),
    }
    others = weights == 0  # on the target's own positions the identity hides the last digits
    for name, row in expected.items():
        assert gap(found[name][others], row[others]) <= 1e-5, name
        assert (found[name] - row).abs().max() <= 1e-6, name
    assert found["input-gradient"].min() >= 0
    assert found["input-gradient"].max() > 0


def test_baselines_know_nothing_of_the_target(model) -> None:  # type: ignore[no-untyped-def]
    passage = passage_of(tiny_case(model, images=2))
    end = passage.token_ids.numel()
    names = ["random", "gaussian"]
    one, two = explain(model, [passage], [[(end - 1,), (end - 1,)]], methods=names)[0]
    assert torch.equal(one.rows["random"], two.rows["random"])
    (first, stop), _ = passage.images
    bump = one.rows["gaussian"][first:stop].view(4, 4)
    assert torch.equal(bump, bump.flip(0))
    assert bump[1, 1] == bump.max()


def test_a_method_that_does_not_exist_is_refused_by_the_names_there_are(model) -> None:  # type: ignore[no-untyped-def]
    passage = passage_of(tiny_case(model, images=0))
    with pytest.raises(InvalidRequest, match="chefer"):
        explain(model, [passage], [[(3,)]], methods=["gradcam"])
