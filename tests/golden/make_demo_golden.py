#!/usr/bin/env python3
"""Writes tests/golden/demo/demo_golden.json: what transformers answers with the demo model.

    python3 tests/golden/make_demo_golden.py --model DIR

DIR is the folder that deploy/demo_model/make_demo_model.py makes. README.md beside this file
describes the output.
"""

import argparse
import json
from pathlib import Path

import torch
import transformers

from make_goldens import compact_lists

OUTPUT = Path(__file__).resolve().parent / "demo" / "demo_golden.json"
TOKENS = 64

CHATS = {
    "chat_capital": [("user", "What is the capital of France?")],
    "chat_poem": [("user", "Write a short poem about the wind.")],
    "chat_system": [("system", "You answer in one short sentence."),
                    ("user", "Why is the sky blue?")],
    "chat_turns": [("user", "My name is Minji and I live in Busan."),
                   ("assistant", "Nice to meet you, Minji! How can I help you today?"),
                   ("user", "Where do I live?")],
    "chat_code": [("user", "Write a Python function that returns the sum of a list.")],
    "chat_korean": [("user", "안녕하세요! 대한민국의 수도는 어디인가요?")],
}
TEXTS = {
    "text_story": "Once upon a time, in a small village by the sea,",
    "text_facts": "The three states of matter are",
    "text_list": "Prime numbers below 30: 2, 3, 5, 7,",
    "text_korean": "바람은 공기가 움직이는 현상이다. 바람이 부는 까닭은",
}


@torch.inference_mode()
def greedy(model, ids: list[int]) -> tuple[list[int], list[float]]:
    """Greedy ids past every stop token, and the lead of each over the second best."""
    cache = transformers.DynamicCache(config=model.config)
    new, chosen, margins = torch.tensor([ids]), [], []
    for _ in range(TOKENS):
        logits = model(new, past_key_values=cache, use_cache=True).logits[0, -1].float()
        best = logits.topk(2)
        margins.append(round(float(best.values[0] - best.values[1]), 5))
        chosen.append(int(best.indices[0]))
        new = best.indices[:1].view(1, 1)
    return chosen, margins


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    folder = parser.parse_args().model
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    models = {dtype: transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager").eval()
        for dtype in (torch.float32, torch.bfloat16)}

    entries = []
    for name in CHATS | TEXTS:
        entry = {"name": name}
        if name in CHATS:
            entry["messages"] = [{"role": r, "content": c} for r, c in CHATS[name]]
            entry["text"] = tokenizer.apply_chat_template(
                entry["messages"], tokenize=False, add_generation_prompt=True)
        else:
            entry["text"] = TEXTS[name]
        entry["ids"] = tokenizer(entry["text"])["input_ids"]
        entry["greedy_ids"], entry["greedy_margins"] = greedy(models[torch.float32], entry["ids"])
        entry["greedy_ids_bf16"] = greedy(models[torch.bfloat16], entry["ids"])[0]
        entry["greedy_text"] = tokenizer.decode(entry["greedy_ids"])
        entries.append(entry)
        same = [a == b for a, b in zip(entry["greedy_ids"], entry["greedy_ids_bf16"])]
        first = same.index(False) if False in same else TOKENS
        print(f"{name:14} {len(entry['ids']):3} tokens, least margin "
              f"{min(entry['greedy_margins']):.4f}, bf16 equal for {first}: "
              f"{entry['greedy_text']!r}", flush=True)
    golden = {
        "model": "SmolLM2-135M-Instruct, as made by deploy/demo_model/make_demo_model.py",
        "reference": {"transformers": transformers.__version__, "torch": torch.__version__},
        "prompts": entries,
    }
    OUTPUT.parent.mkdir(exist_ok=True)
    text = json.dumps(golden, indent=1, ensure_ascii=False)
    OUTPUT.write_text(compact_lists(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
