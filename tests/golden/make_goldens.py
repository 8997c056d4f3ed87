#!/usr/bin/env python3
"""Writes tests/golden/models: a tiny random model folder per case and its reference results.

    python3 tests/golden/make_goldens.py [case ...]

Needs torch, transformers, safetensors and numpy (versions: golden.json). Run once and committed;
no build or test needs Python. README.md beside this file describes the output.
"""

import json
import math
import shutil
import sys
import zlib
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import transformers

from golden_cases import CASES, GREEDY_TOKENS, PROMPT_LENGTHS, Case

MODELS = Path(__file__).resolve().parent / "models"
TOP = 50            # tokens per position in whose log-probabilities a bf16 run's error is measured
LOGIT_STD = 2.0     # per position, as in a trained model
TORCH_DTYPE = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}

# EXAONE 3.x has no class in transformers before 5.24; its math is Llama's under these names.
EXAONE3_TENSORS = {
    "model.embed_tokens": "transformer.wte", "model.norm": "transformer.ln_f",
    "model.layers": "transformer.h", "input_layernorm": "ln_1", "post_attention_layernorm": "ln_2",
    "self_attn.o_proj": "attn.attention.out_proj", "self_attn": "attn.attention",
    "mlp.gate_proj": "mlp.c_fc_0", "mlp.up_proj": "mlp.c_fc_1", "mlp.down_proj": "mlp.c_proj",
}
LAST_NORMS = ("model.norm.weight", "model.language_model.norm.weight")
EXAONE3_KEYS = {"num_layers": "num_hidden_layers", "layer_norm_epsilon": "rms_norm_eps",
                "activation_function": "hidden_act"}


def is_exaone3(case: Case) -> bool:
    return case.config["model_type"] == "exaone"


def is_gemma3(case: Case) -> bool:
    return case.config["model_type"] in ("gemma3_text", "gemma3")


def stored_name(case: Case, name: str) -> str:
    names = EXAONE3_TENSORS if is_exaone3(case) else case.tensors
    for reference, stored in names.items():
        name = name.replace(reference, stored)
    return name


def reference_config(case: Case, changes: dict | None = None):
    """The transformers config of a case; `changes` are laid over it last."""
    config = case.config | case.reference | (changes or {})
    if is_exaone3(case):
        config = {EXAONE3_KEYS.get(key, key): value for key, value in config.items()}
        config |= {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    config_class = transformers.CONFIG_MAPPING[config["model_type"]]
    # from_dict edits nested values in place.
    return config_class.from_dict(json.loads(json.dumps(config)), attn_implementation="eager")


def draw_weights(case: Case, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Random fp32 weights under transformers' names, every norm off one and every bias off zero."""
    config = reference_config(case)
    model_class = getattr(transformers, config.architectures[0])
    # A tied head predicts the last token again from the residual stream; a weaker embedding keeps
    # that from deciding every prediction.
    embedding_std = 0.3 if config.tie_word_embeddings else 1.0
    if is_gemma3(case):
        embedding_std /= math.sqrt(config.get_text_config().hidden_size)
    embedding_std /= case.config.get("embedding_multiplier", 1.0)
    # Attention sharp enough that a wrong position or window shows, sub-layers strong enough that
    # the residual stream is not just the embedding.
    gains = {"q_proj": 1.6, "k_proj": 1.6, "o_proj": 1.4, "gate_proj": 1.4, "down_proj": 2.0}
    weights = {}
    for name, like in model_class(config).state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        role, shape = name.split(".")[-2], tuple(like.shape)
        if name.endswith(".bias"):
            value = 0.4 * rng.standard_normal(shape)
        elif role.endswith("norm") or role.startswith("post_norm"):
            value = rng.uniform(0.5, 1.7, shape)
            value -= is_gemma3(case)  # stored relative to zero
        elif role == "embed_tokens":
            value = embedding_std * rng.standard_normal(shape)
        else:
            value = gains.get(role, 1.0) / math.sqrt(shape[-1]) * rng.standard_normal(shape)
        weights[name] = torch.from_numpy(value.astype(np.float32))
    return weights


def write_tensors(case: Case, folder: Path, weights: dict[str, torch.Tensor]) -> None:
    dtype = TORCH_DTYPE[case.dtype]
    stored = {stored_name(case, n): w.to(dtype).contiguous() for n, w in weights.items()}
    names = sorted(stored)
    if case.shards == 1:
        safetensors.torch.save_file(stored, folder / "model.safetensors", {"format": "pt"})
        return
    weight_map = {}
    for shard in range(case.shards):
        file = f"model-{shard + 1:05}-of-{case.shards:05}.safetensors"
        part = {name: stored[name] for name in names[shard::case.shards]}
        safetensors.torch.save_file(part, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    total = sum(w.numel() * w.element_size() for w in stored.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def load_reference(case: Case, folder: Path, dtype: torch.dtype, changes: dict | None = None):
    """The reference model on the stored weights, computing in `dtype`."""
    config = reference_config(case, changes)
    stored = {}
    for file in sorted(folder.glob("model*.safetensors")):
        stored |= safetensors.torch.load_file(file)
    # Built with its own default dtype, like from_pretrained does: RoPE frequencies stay fp32, while
    # Gemma's embedding scale is rounded to the model's dtype.
    torch.set_default_dtype(dtype)
    model = getattr(transformers, config.architectures[0])(config)
    torch.set_default_dtype(torch.float32)
    weights = {name: stored.pop(stored_name(case, name)) for name in model.state_dict()
               if not (name == "lm_head.weight" and config.tie_word_embeddings)}
    if stored:
        raise SystemExit(f"{case.name}: transformers has no place for {sorted(stored)}")
    model.load_state_dict(weights, strict=False)  # a tied head shares the embedding's storage
    return model.eval()


@torch.inference_mode()
def log_probs(model, ids: list[int]) -> torch.Tensor:
    """fp32 log-probabilities of every next token, [tokens, vocabulary]."""
    return model(torch.tensor([ids]), use_cache=False).logits[0].float().log_softmax(-1)


def greedy(model, ids: list[int]) -> tuple[list[int], list[float]]:
    """Greedy ids past every stop token, and the lead of each over the second best. Without a
    cache, so that nothing but the model is tested."""
    ids, margins, prompt = list(ids), [], len(ids)
    for _ in range(GREEDY_TOKENS):
        best = log_probs(model, ids)[-1].topk(2)
        margins.append(float(best.values[0] - best.values[1]))
        ids.append(int(best.indices[0]))
    return ids[prompt:], margins


def make(case: Case) -> None:
    seed = zlib.crc32(case.name.encode())
    rng = np.random.default_rng(seed)
    folder = MODELS / case.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(case.config, indent=2) + "\n")
    vocabulary = reference_config(case).get_text_config().vocab_size
    prompts = [rng.integers(0, vocabulary, length).tolist() for length in PROMPT_LENGTHS]

    weights = draw_weights(case, rng)
    write_tensors(case, folder, weights)
    # The last norm scales the logits, whatever else the family does.
    scale = LOGIT_STD / log_probs(
        load_reference(case, folder, torch.float32), prompts[0]).std(-1).mean()
    centre = 1.0 if is_gemma3(case) else 0.0
    last = next(name for name in weights if name in LAST_NORMS)
    weights[last] = (weights[last] + centre) * scale - centre
    write_tensors(case, folder, weights)

    exact = load_reference(case, folder, torch.float32)
    rounded = load_reference(case, folder, torch.bfloat16)
    tensors, entries, errors = {}, [], []
    for number, prompt in enumerate(prompts):
        expected = log_probs(exact, prompt)
        tensors[f"log_probs.{number}"] = expected.contiguous()
        top = expected.topk(TOP).indices
        errors.append((log_probs(rounded, prompt) - expected).gather(-1, top))
        ids, margins = greedy(exact, prompt)
        entries.append({"ids": prompt, "greedy_ids": ids,
                        "greedy_margins": [round(m, 6) for m in margins],
                        "greedy_ids_bf16": greedy(rounded, prompt)[0]})
    error = torch.cat(errors)
    golden = {
        "case": case.name, "exercises": case.exercises,
        "reference": {"transformers": transformers.__version__, "torch": torch.__version__},
        "bf16_error": {"top": TOP, "rms": round(float(error.square().mean().sqrt()), 6),
                       "max": round(float(error.abs().max()), 6)},
        "prompts": entries,
    }
    safetensors.torch.save_file(tensors, folder / "golden.safetensors")
    text = json.dumps(golden, indent=1)
    (folder / "golden.json").write_text(compact_lists(text) + "\n")
    report(case, golden)


def report(case: Case, golden: dict) -> None:
    kib = sum(f.stat().st_size for f in (MODELS / case.name).iterdir()) / 1024
    error, prompts = golden["bf16_error"], golden["prompts"]
    least = min(min(prompt["greedy_margins"]) for prompt in prompts)
    print(f"{case.name:30} {kib:4.0f} KiB, bf16 error rms {error['rms']:.4f} "
          f"max {error['max']:.4f}, least margin {least:.4f}, "
          f"{len(set(prompts[0]['greedy_ids']))} distinct ids", flush=True)


def compact_lists(text: str) -> str:
    """Puts each list of numbers of an indented JSON text on one line."""
    lines, row = [], None
    for line in text.split("\n"):
        if row is None and line.endswith("["):
            row = [line]
        elif row is not None:
            row.append(line.strip())
            if line.strip().endswith(("{", "[")):  # not a list of numbers after all
                lines.append(row[0])
                row = None
                lines.append(line)
            elif line.strip().startswith("]"):
                lines.append(row[0] + " ".join(row[1:-1]) + row[-1])
                row = None
        else:
            lines.append(line)
    return "\n".join(lines)


def main() -> None:
    torch.set_num_threads(1)  # tiny ops are far slower with more
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    wanted = set(sys.argv[1:])
    unknown = wanted - {case.name for case in CASES}
    if unknown:
        raise SystemExit(f"no such case: {', '.join(sorted(unknown))}")
    for case in CASES:
        if not wanted or case.name in wanted:
            make(case)


if __name__ == "__main__":
    main()
