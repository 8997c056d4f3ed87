#!/usr/bin/env python3
"""Breaks each special rule once, in the reference, and prints how far the golden moves.

    python3 tests/golden/check_sensitivity.py

A rule whose breaking stays below the fp32 tolerance would not be tested: the script then fails.
Needs what make_goldens.py needs.
"""

import json
import sys

import safetensors.torch
import torch
import transformers

from golden_cases import CASES
from make_goldens import MODELS, is_gemma3, load_reference, log_probs

FP32_TOLERANCE = 1e-2


def decoder(model):
    """The text model, which may stand beside a vision model."""
    return getattr(model.model, "language_model", model.model)


def without_query_key_norms(model) -> None:
    for layer in decoder(model).layers:
        layer.self_attn.q_norm = torch.nn.Identity()
        layer.self_attn.k_norm = torch.nn.Identity()


def unit_norms(model) -> None:
    """Every norm of a layer but the per-head ones."""
    gemma3 = model.config.model_type in ("gemma3_text", "gemma3")
    for layer in decoder(model).layers:
        for name, module in layer.named_children():
            if "norm" in name and hasattr(module, "weight"):
                module.weight.data.fill_(0.0 if gemma3 else 1.0)


def without_embedding_scale(model) -> None:
    decoder(model).embed_tokens.embed_scale.fill_(1.0)


def without_biases(model) -> None:
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            parameter.data.zero_()


def global_layers_with_rope(model) -> None:
    for layer in model.model.layers:
        layer.self_attn.is_sliding = True  # read for RoPE and, in the eager path, for nothing else


def edits_of(case) -> dict:
    """Rules that no config key switches off, as edits of the built model."""
    edits = {"unit norms": unit_norms}
    family = case.config["model_type"]
    if family in ("qwen3", "exaone4") or is_gemma3(case):
        edits["no query and key norms"] = without_query_key_norms
    if family == "qwen2" or case.config.get("attention_bias"):
        edits["no biases"] = without_biases
    if is_gemma3(case):
        edits["no embedding scale"] = without_embedding_scale
    if family == "exaone4" and case.config["sliding_window"]:
        edits["RoPE on global layers"] = global_layers_with_rope
    return edits


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    unseen = 0
    for case in CASES:
        folder = MODELS / case.name
        ids = json.loads((folder / "golden.json").read_text())["prompts"][0]["ids"]
        golden = safetensors.torch.load_file(folder / "golden.safetensors")["log_probs.0"]
        broken = [(rule, lambda c=changes: load_reference(case, folder, torch.float32, c))
                  for rule, changes in case.flips.items()]
        for rule, edit in edits_of(case).items():
            def edited(edit=edit):
                model = load_reference(case, folder, torch.float32)
                edit(model)
                return model
            broken.append((rule, edited))
        for rule, build in broken:
            moved = float((log_probs(build(), ids) - golden).abs().max())
            unseen += moved <= FP32_TOLERANCE
            print(f"{case.name:30} {rule:28} {moved:8.3f}", flush=True)
    if unseen:
        sys.exit(f"{unseen} broken rules stay inside the tolerance")


if __name__ == "__main__":
    main()
