"""Checkpoints as the published codes write them, and their logits in plain torch."""

import sys
import types

import torch

from tests.interop.layouts import mil

HIDDEN = 8
ATTENTION = 4
DIM = 6
CLASSES = 3


def linear(name, out, into, bias=True):
    return {f"{name}.weight": (out, into)} | ({f"{name}.bias": (out,)} if bias else {})


def gated(branches):
    shapes = linear("dimreduction.fc1", HIDDEN, DIM, bias=False)
    for part in "VU":
        shapes |= linear(f"attention.attention_{part}.0", ATTENTION, HIDDEN)
    return shapes | linear("attention.attention_weights", branches, ATTENTION)


def projections(name, parts="qkv"):
    shapes = {}
    for part in parts:
        shapes |= linear(f"{name}.{part}_proj", HIDDEN, HIDDEN)
    shapes |= linear(f"{name}.out_proj", HIDDEN, HIDDEN)
    return shapes | {f"{name}.layer_norm.weight": (HIDDEN,), f"{name}.layer_norm.bias": (HIDDEN,)}


def classifiers(branches):
    shapes = {}
    for i in range(branches):
        shapes |= linear(f"classifier.{i}.fc", CLASSES, HIDDEN)
    return shapes | linear("Slide_classifier.fc", CLASSES, HIDDEN)


def clam(rows, bags):
    shapes = linear("attention_net.0", HIDDEN, DIM)
    for part in "ab":
        shapes |= linear(f"attention_net.3.attention_{part}.0", ATTENTION, HIDDEN)
    shapes |= linear("attention_net.3.attention_c", rows, ATTENTION) | bags
    for k in range(CLASSES):
        shapes |= linear(f"instance_classifiers.{k}", 2, HIDDEN)
    return shapes


def acmil_mha(branches):
    shapes = {"q": (1, branches, HIDDEN)} | linear("dimreduction.fc1", HIDDEN, DIM, bias=False)
    for i in range(branches):
        shapes |= projections(f"sub_attention.{i}")
    return shapes | projections("bag_attention", "v") | classifiers(branches)


def per_class():
    shapes = {}
    for k in range(CLASSES):
        shapes |= linear(f"classifiers.{k}", 1, HIDDEN)
    return shapes


SHAPES = {
    "ACMIL_GA": gated(2) | classifiers(2),
    "ABMIL": gated(1) | linear("classifier.fc", CLASSES, HIDDEN),
    "ACMIL_MHA": acmil_mha(2),
    "MHA": {"q": (1, 1, HIDDEN)}
    | linear("dimreduction.fc1", HIDDEN, DIM, bias=False)
    | projections("attention")
    | linear("classifier.fc", CLASSES, HIDDEN),
    "CLAM_SB": clam(1, linear("classifiers", CLASSES, HIDDEN)),
    "CLAM_MB": clam(CLASSES, per_class()),
    "ABMIL of MIL-Lab": linear("patch_embed.0", HIDDEN, DIM)
    | linear("global_attn.attention_a.0", ATTENTION, HIDDEN)
    | linear("global_attn.attention_b.0", ATTENTION, HIDDEN)
    | linear("global_attn.attention_c", 1, ATTENTION)
    | linear("classifier", CLASSES, HIDDEN),
    "DSMIL": linear("i_classifier.fc.0", CLASSES, DIM)
    | linear("b_classifier.q", HIDDEN, DIM)
    | {"b_classifier.fcc.weight": (CLASSES, CLASSES, DIM), "b_classifier.fcc.bias": (CLASSES,)},
}
HEADS = {
    "ACMIL_GA": "acmil",
    "ABMIL": "abmil",
    "ABMIL of MIL-Lab": "abmil",
    "ACMIL_MHA": "acmil_mha",
    "MHA": "mha",
    "CLAM_SB": "clam_sb",
    "CLAM_MB": "clam_mb",
    "DSMIL": "dsmil",
}
TOOLS = {
    "ACMIL_GA": "acmil",
    "ABMIL": "aem",
    "ABMIL of MIL-Lab": "feather",
    "ACMIL_MHA": "acmil",
    "MHA": "aem",
    "CLAM_SB": "clam",
    "CLAM_MB": "clam",
    "DSMIL": "aem",
}


def drawn(name, seed=0):
    """A state dict of a published class with random numbers, in its order."""
    random = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=random) for key, shape in SHAPES[name].items()}


def golden(name):
    """Tensor t holds 0.5 sin(1 + index + 10 t), float64."""
    tensors = {}
    for t, (key, shape) in enumerate(SHAPES[name].items()):
        index = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
        tensors[key] = (0.5 * torch.sin(1 + index + 10 * t)).reshape(shape)
    return tensors


def save(path, tensors, config=None, epoch=12, **others):
    """Write a checkpoint; `config` becomes a Struct while torch pickles it."""
    kind = type("Struct", (), {"__module__": "utils.utils"})
    settings = kind()
    settings.__dict__.update(config or {})
    parent = types.ModuleType("utils")
    module = types.ModuleType("utils.utils")
    module.Struct = kind
    before = {name: sys.modules.get(name) for name in ("utils", "utils.utils")}
    sys.modules.update({"utils": parent, "utils.utils": module})
    try:
        whole = {
            "model": tensors,
            "optimizer": {"state": {}, "param_groups": []},
            "epoch": epoch,
            "config": settings,
        }
        torch.save(whole | others, path)
    finally:
        for name, old in before.items():
            sys.modules.pop(name)
            if old is not None:
                sys.modules[name] = old
    return path


def row(tensors, name, x):
    bias = tensors.get(f"{name}.bias", 0)
    return x @ tensors[f"{name}.weight"].T + bias


def attended(tensors, layer, h, query):
    """Scores per head, [heads, tiles], and the pooled row through values, output layer and norm."""
    q = row(tensors, f"{layer}.q_proj", query)
    k = row(tensors, f"{layer}.k_proj", h)
    scores = (q.reshape(8, 1, -1) @ k.reshape(len(h), 8, -1).permute(1, 2, 0))[:, 0] / (
        HIDDEN / 8
    ) ** 0.5
    return scores, pooled_values(tensors, layer, h, scores.softmax(-1))


def pooled_values(tensors, layer, h, attention):
    values = row(tensors, f"{layer}.v_proj", h).reshape(len(h), 8, -1)
    joined = row(
        tensors, f"{layer}.out_proj", torch.einsum("hn,nhc->hc", attention, values).flatten()
    )
    norm = [tensors[f"{layer}.layer_norm.{part}"] for part in ("weight", "bias")]
    return torch.nn.functional.layer_norm(joined, (HIDDEN,), *norm, eps=1e-6)


def logits(name, tensors, x):
    """Bag logits of a published class in evaluation mode, from the formulas alone.

    DSMIL's are the logarithm of the published probabilities.
    """
    if name == "DSMIL":
        return dsmil(tensors, x)
    if name == "ABMIL of MIL-Lab":
        h = row(tensors, "patch_embed.0", x).relu()
        net = "global_attn.attention"
        gates = row(tensors, f"{net}_a.0", h).tanh() * row(tensors, f"{net}_b.0", h).sigmoid()
        attention = row(tensors, f"{net}_c", gates).softmax(0)
        return row(tensors, "classifier", (attention.T @ h)[0])
    if name.startswith("CLAM"):
        h = row(tensors, "attention_net.0", x).relu()
        net = "attention_net.3.attention"
        gates = row(tensors, f"{net}_a.0", h).tanh() * row(tensors, f"{net}_b.0", h).sigmoid()
        pooled = row(tensors, f"{net}_c", gates).softmax(0).T @ h
        if name == "CLAM_SB":
            return row(tensors, "classifiers", pooled)[0]
        return torch.cat([row(tensors, f"classifiers.{k}", pooled[k]) for k in range(CLASSES)])
    h = (x @ tensors["dimreduction.fc1.weight"].T).relu()
    if name == "MHA":
        return row(
            tensors, "classifier.fc", attended(tensors, "attention", h, tensors["q"][0, 0])[1]
        )
    if name == "ACMIL_MHA":
        maps = [
            attended(tensors, f"sub_attention.{i}", h, q)[0].softmax(-1)
            for i, q in enumerate(tensors["q"][0])
        ]
        bag = pooled_values(tensors, "bag_attention", h, torch.stack(maps).mean(0))
        return row(tensors, "Slide_classifier.fc", bag)
    gates = (
        row(tensors, "attention.attention_V.0", h).tanh()
        * row(tensors, "attention.attention_U.0", h).sigmoid()
    )
    bag = row(tensors, "attention.attention_weights", gates).softmax(0).mean(1) @ h
    return row(tensors, "Slide_classifier.fc" if name == "ACMIL_GA" else "classifier.fc", bag)


def dsmil(tensors, x):
    tiles = row(tensors, "i_classifier.fc.0", x)
    queries = row(tensors, "b_classifier.q", x)
    attention = (queries @ queries[tiles.argmax(0)].T / HIDDEN**0.5).softmax(0)
    pooled = attention.T @ x
    weight = tensors["b_classifier.fcc.weight"]
    bag = (
        torch.stack([(weight[o] * pooled).sum() for o in range(CLASSES)])
        + tensors["b_classifier.fcc.bias"]
    )
    return ((bag.softmax(-1) + tiles.max(0).values.softmax(-1)) / 2).log()


def heads(*arguments):
    """Run `mil heads …`."""
    return mil("heads", *arguments)


def imported(file, out, tool, *options):
    """Import with the facts that a file lacks; the output of the command."""
    facts = () if "--classes" in options else ("--classes", "a,b,c")
    facts += () if {"--encoder", "--bags"} & set(options) else ("--encoder", "tiny")
    code, output = heads("import", file, "--out", out, "--from", tool, *facts, *options)
    assert code == 0, output
    return output
