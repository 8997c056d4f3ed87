#!/usr/bin/env python3
"""Our engine beside llama.cpp: one model shape, bf16, one machine, as many threads, turn by turn.

    ./dev build && python3 llama_cpp.py [--rounds 3] [--json FILE] [--work FOLDER]

llama.cpp is built for this processor (GGML_NATIVE) from the package that llama_cpp.txt pins; the
model is engine_bench's llama-1b with its own random weights. Every round runs the three programs
one after another. Prints median tokens per second and their ratios: for a prompt of 512 tokens, and
for decoding 16 tokens of each of 1, 8 and 32 sequences after 32 tokens of context. The first run
takes minutes, mostly for the build. Run it on a quiet machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# bench/model_shapes.cc, llama-1b
HIDDEN, LAYERS, FFN, HEADS, KV_HEADS, HEAD_DIM, VOCABULARY = 2048, 16, 8192, 32, 8, 64, 49152
PROMPT, CONTEXT, STEPS, BATCHES = 512, 32, 16, (1, 8, 32)


def run(*command, **options):
    words = [str(word) for word in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          check=False, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)}\n{done.stderr[-2000:]}\nended with {done.returncode}")
    return done.stdout


def build(work):
    programs = work / "build" / "bin"
    if (programs / "llama-bench").exists() and (programs / "llama-batched-bench").exists():
        return programs
    print("Build llama.cpp ...", flush=True)
    run(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
        "--no-binary=:all:", "--require-hashes", "-r", HERE / "llama_cpp.txt", "-d", work)
    for archive in work.glob("llama_cpp_python-*.tar.gz"):
        run("tar", "xzf", archive, "-C", work)
    sources = next(work.glob("llama_cpp_python-*/vendor/llama.cpp"))
    run("cmake", "-S", sources, "-B", work / "build", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
        "-DGGML_NATIVE=ON", "-DGGML_OPENMP=OFF", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_CURL=OFF",
        "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF",
        "-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_BUILD_UI=OFF")
    run("cmake", "--build", work / "build", "--target", "llama-bench", "llama-batched-bench")
    return programs


def write_model(path):
    if path.exists():
        return
    print("Write the model ...", flush=True)
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(str(part), "llama")
    writer.add_vocab_size(VOCABULARY)
    writer.add_context_length(4096)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    random = np.random.default_rng(1)

    def weight(name, rows, columns):
        values = random.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.02)
        halves = (values.view(np.uint32) >> 16).astype(np.uint16)
        writer.add_tensor(name, halves.view(np.uint8).reshape(rows, columns * 2),
                          raw_dtype=gguf.GGMLQuantizationType.BF16)

    def norm(name):
        writer.add_tensor(name, np.ones(HIDDEN, np.float32))

    weight("token_embd.weight", VOCABULARY, HIDDEN)
    norm("output_norm.weight")
    for layer in range(LAYERS):
        at = f"blk.{layer}"
        norm(f"{at}.attn_norm.weight")
        norm(f"{at}.ffn_norm.weight")
        weight(f"{at}.attn_q.weight", HEADS * HEAD_DIM, HIDDEN)
        weight(f"{at}.attn_k.weight", KV_HEADS * HEAD_DIM, HIDDEN)
        weight(f"{at}.attn_v.weight", KV_HEADS * HEAD_DIM, HIDDEN)
        weight(f"{at}.attn_output.weight", HIDDEN, HEADS * HEAD_DIM)
        weight(f"{at}.ffn_gate.weight", FFN, HIDDEN)
        weight(f"{at}.ffn_up.weight", FFN, HIDDEN)
        weight(f"{at}.ffn_down.weight", HIDDEN, FFN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(path)


def measure_ours(work, threads):
    path = work / "ours.json"
    run(ROOT / "build/release/bench/engine_bench", "--threads", threads, "--prompt", PROMPT,
        "--context", CONTEXT, "--steps", STEPS, "--batches", ",".join(map(str, BATCHES)),
        "--json", path)
    with open(path, encoding="utf-8") as file:
        return {row["name"]: row["tokens_per_s"] for row in json.load(file)["measurements"]}


def measure_theirs(programs, model, threads):
    rows = json.loads(run(programs / "llama-bench", "-m", model, "-t", threads, "-p", PROMPT,
                          "-n", 0, "-r", 1, "-o", "json"))
    rates = {f"prefill {PROMPT}": rows[0]["avg_ts"]}
    lines = run(programs / "llama-batched-bench", "-m", model, "-t", threads, "-tb", threads,
                "-c", (CONTEXT + STEPS) * max(BATCHES), "-b", 2048, "-ub", 512, "-npp", CONTEXT,
                "-ntg", STEPS, "-npl", ",".join(map(str, BATCHES)), "--output-format", "jsonl")
    for line in lines.splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            rates[f"decode B={row['pl']}"] = row["speed_tg"]
    return rates


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "peers")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    programs = build(options.work)
    model = options.work / "llama-1b-bf16.gguf"
    write_model(model)

    rounds = []
    for number in range(options.rounds):
        print(f"Round {number + 1} of {options.rounds} ...", flush=True)
        rounds.append((measure_ours(options.work, options.threads),
                       measure_theirs(programs, model, options.threads)))
    table = []
    for name in rounds[0][0]:
        ours, theirs = (statistics.median(round_[side][name] for round_ in rounds)
                        for side in (0, 1))
        ratio = statistics.median(round_[0][name] / round_[1][name] for round_ in rounds)
        table.append({"name": name, "ours": round(ours, 2), "llama_cpp": round(theirs, 2),
                      "ratio": round(ratio, 2),  # the median of the rounds' ratios
                      "rates": [[round(rates[name], 2) for rates in round_] for round_ in rounds]})
    print(f"{'tokens/s':<14}{'ours':>9}{'llama.cpp':>12}{'ratio':>8}")
    for row in table:
        print(f"{row['name']:<14}{row['ours']:>9.1f}{row['llama_cpp']:>12.1f}{row['ratio']:>8.2f}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"model": "Llama shape, 1.07 B parameters, bf16, random weights",
                       "threads": options.threads, "rounds": options.rounds,
                       "peer": "llama.cpp of llama-cpp-python 0.3.36, GGML_NATIVE",
                       "measurements": table}, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
