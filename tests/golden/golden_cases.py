"""The tiny models behind tests/golden/models: one Case per family and variant.

A case's `config` is written to config.json as it stands, in the spelling that checkpoints of that
family use. Keys under `reference` are laid over it only when transformers is asked for the
reference, for spellings that transformers itself no longer reads. `tensors` renames parts of
transformers' names of the tensors to what the file calls them. `flips` names, for each special
rule, the config change that breaks it: check_sensitivity.py proves that the golden would notice.
"""

from dataclasses import dataclass, field

BF16, F16, F32 = "bfloat16", "float16", "float32"

# Longer than every window and every original RoPE length below; the second prompt is shorter than
# the windows.
PROMPT_LENGTHS = (56, 7)
GREEDY_TOKENS = 24

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32, "rope_type": "llama3"}


@dataclass(frozen=True)
class Case:
    name: str
    exercises: str
    config: dict
    dtype: str = BF16
    shards: int = 1
    reference: dict = field(default_factory=dict)
    tensors: dict = field(default_factory=dict)
    flips: dict = field(default_factory=dict)


def _decoder(architecture, model_type, **changes):
    """config.json of a small pre-norm decoder: 3 layers, hidden 48, 3 heads of 16 on 1 KV head."""
    config = {
        "architectures": [architecture], "model_type": model_type, "torch_dtype": BF16,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        "vocab_size": 208, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
        "num_attention_heads": 3, "num_key_value_heads": 1, "hidden_act": "silu",
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": False, "attention_dropout": 0.0, "initializer_range": 0.02,
        "use_cache": True,
    }
    config.update(changes)
    return {key: value for key, value in config.items() if value is not ...}


def _llama(**changes):
    return _decoder("LlamaForCausalLM", "llama", **changes)


def _exaone3(**changes):
    return _decoder(
        "ExaoneForCausalLM", "exaone", num_hidden_layers=..., rms_norm_eps=..., hidden_act=...,
        num_layers=3, layer_norm_epsilon=1e-5, activation_function="silu", head_dim=16,
        embed_dropout=0.0, **changes)


def _exaone4(**changes):
    return _decoder("Exaone4ForCausalLM", "exaone4", head_dim=16, **changes)


def _hyperclovax(**changes):
    return _decoder(
        "HyperCLOVAXForCausalLM", "hyperclovax", embedding_multiplier=4.5, logits_scaling=0.37,
        residual_multiplier=0.6, attention_multiplier=0.13, head_dim=16, **changes)


def _gemma3(**changes):
    return _decoder(
        "Gemma3ForCausalLM", "gemma3_text", hidden_act=..., hidden_activation="gelu_pytorch_tanh",
        attention_bias=False, attn_logit_softcapping=None, final_logit_softcapping=None,
        rms_norm_eps=1e-6, tie_word_embeddings=True, sliding_window=9, num_hidden_layers=4,
        num_attention_heads=2, head_dim=16, query_pre_attn_scalar=24, **changes)


def _gemma3_text(**changes):
    """The `text_config` of a folder with a vision model, as sparse as published ones."""
    return {"hidden_size": 16, "intermediate_size": 48, "vocab_size": 208,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64,
            "sliding_window": 9} | changes


def _gemma3_multimodal(text_config, **changes):
    return {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "eos_token_id": [1, 2], "boi_token_index": 200, "eoi_token_index": 201,
        "image_token_index": 202, "mm_tokens_per_image": 4, "text_config": text_config,
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 24,
            "num_attention_heads": 2, "num_hidden_layers": 1, "image_size": 16, "patch_size": 4,
            "vision_use_head": False},
    } | changes


LOCAL, GLOBAL = "sliding_attention", "full_attention"
ROPE_OFF = {"rope_theta": 1e30, "rope_scaling": None}  # all frequencies but the first vanish
NO_SCALING = {"rope_scaling": None}
LINEAR = {"factor": 8.0, "rope_type": "linear"}

CASES = [
    Case("llama_untied", "pre-norm, untied head, 3 query heads per KV head, head_dim left out",
         _llama(),
         flips={"rope theta": {"rope_theta": 9000.0}, "norm eps": {"rms_norm_eps": 1e-2}}),
    Case("llama_tied_hd24_f32",
         "tied head, head_dim 24, heads x head_dim 96 != hidden 48, no GQA, vocabulary 203 "
         "(not a multiple of 16), f32 file",
         _llama(torch_dtype=F32, tie_word_embeddings=True, num_attention_heads=4,
                num_key_value_heads=4, head_dim=24, vocab_size=203, num_hidden_layers=2), F32),
    Case("llama_hd80_f16", "head_dim 80, heads x head_dim 160 != hidden 32, f16 file",
         _llama(torch_dtype=F16, hidden_size=32, num_attention_heads=2, num_key_value_heads=1,
                head_dim=80, num_hidden_layers=2), F16),
    Case("llama_hd256", "head_dim 256, odd vocabulary 211",
         _llama(hidden_size=32, num_attention_heads=1, num_key_value_heads=1, head_dim=256,
                num_hidden_layers=2, vocab_size=211)),
    Case("llama_gqa8_sharded", "8 query heads on 1 KV head, head_dim 10, three files with an index",
         _llama(num_attention_heads=8, num_key_value_heads=1, head_dim=10), shards=3),
    Case("llama_rope_llama3", "llama3 RoPE past its original length, `rope_scaling.rope_type`",
         _llama(num_attention_heads=2, head_dim=32, rope_scaling=LLAMA3),
         flips={"llama3 scaling": NO_SCALING,
                "llama3 low factor": {"rope_scaling": LLAMA3 | {"low_freq_factor": 2.0}}}),
    Case("llama_rope_llama3_parameters", "llama3 RoPE, `rope_parameters` with the theta inside",
         _llama(num_attention_heads=2, head_dim=24, rope_theta=...,
                rope_parameters=LLAMA3 | {"rope_theta": 20000.0}, torch_dtype=..., dtype=BF16),
         flips={"rope theta": {"rope_parameters": LLAMA3 | {"rope_theta": 10000.0}}}),
    Case("llama_rope_linear", "linear RoPE, old spelling `rope_scaling.type`",
         _llama(rope_scaling={"type": "linear", "factor": 4.0}),
         flips={"linear scaling": NO_SCALING}),
    Case("llama_rope_yarn", "YaRN past its original length, its attention factor from `factor`",
         _llama(num_attention_heads=2, head_dim=32,
                rope_scaling={"rope_type": "yarn", "factor": 4.0,
                              "original_max_position_embeddings": 32}),
         flips={"YaRN scaling": NO_SCALING,
                "YaRN attention factor": {"rope_scaling": {
                    "rope_type": "yarn", "factor": 4.0, "attention_factor": 1.0,
                    "original_max_position_embeddings": 32}}}),
    Case("llama_rope_yarn_parameters",
         "YaRN from `rope_parameters`: attention_factor, betas, no rounding of its ramp's ends",
         _llama(num_attention_heads=2, head_dim=32, rope_theta=...,
                rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
                                 "original_max_position_embeddings": 32, "beta_fast": 2.0,
                                 "beta_slow": 0.5, "truncate": False, "attention_factor": 1.25}),
         flips={"YaRN truncate": {"rope_parameters": {
             "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
             "original_max_position_embeddings": 32, "beta_fast": 2.0, "beta_slow": 0.5,
             "attention_factor": 1.25}}}),
    Case("llama_rope_yarn_mscale", "YaRN, old spelling `type`, mscale over mscale_all_dim",
         _llama(num_attention_heads=2, head_dim=32, num_hidden_layers=2,
                rope_scaling={"type": "yarn", "factor": 8.0, "mscale": 0.4, "mscale_all_dim": 0.9,
                              "original_max_position_embeddings": 32}),
         flips={"YaRN mscale": {"rope_scaling": {
             "type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32}}}),
    Case("llama_biases", "biases on q, k, v, o and on gate, up, down",
         _llama(attention_bias=True, mlp_bias=True)),
    Case("mistral_window", "sliding window 13 on every layer, prompt 56",
         _decoder("MistralForCausalLM", "mistral", sliding_window=13, head_dim=16),
         flips={"window + 1": {"sliding_window": 14}, "window - 1": {"sliding_window": 12},
                "no window": {"sliding_window": None}}),
    Case("mistral_full", "no window (null), 3 query heads per KV head",
         _decoder("MistralForCausalLM", "mistral", sliding_window=None, num_attention_heads=6,
                  num_key_value_heads=2, head_dim=8, num_hidden_layers=2)),
    Case("qwen2", "biases on q, k, v only; sliding_window given but switched off",
         _decoder("Qwen2ForCausalLM", "qwen2", use_sliding_window=False, sliding_window=9,
                  max_window_layers=1, rms_norm_eps=1e-6),
         flips={"window used": {"use_sliding_window": True}}),
    Case("qwen2_window", "use_sliding_window from layer max_window_layers on; tied head",
         _decoder("Qwen2ForCausalLM", "qwen2", use_sliding_window=True, sliding_window=9,
                  max_window_layers=2, num_hidden_layers=4, tie_word_embeddings=True,
                  rms_norm_eps=1e-6),
         flips={"window + 1": {"sliding_window": 10}, "first window layer": {
             "max_window_layers": 3}, "no window": {"use_sliding_window": False}}),
    Case("qwen3", "per-head query and key norms before RoPE; tied head; head_dim 32",
         _decoder("Qwen3ForCausalLM", "qwen3", head_dim=32, num_attention_heads=2,
                  tie_word_embeddings=True, attention_bias=False, use_sliding_window=False,
                  sliding_window=None, max_window_layers=3, rms_norm_eps=1e-6)),
    Case("exaone3", "EXAONE 3.x names and config keys, llama3 RoPE past its original length",
         _exaone3(rope_theta=20000.0, rope_scaling=LLAMA3), flips={"llama3 scaling": NO_SCALING}),
    Case("exaone3_tied", "EXAONE 3.x, tied head (no lm_head in the file), vocabulary 205",
         _exaone3(tie_word_embeddings=True, vocab_size=205)),
    Case("exaone4_global", "post norms only, query and key norms, sliding_window null: full "
         "attention with RoPE on all layers; llama3 RoPE; tied; no layer_types",
         _exaone4(tie_word_embeddings=True, sliding_window=None, sliding_window_pattern=None,
                  rope_scaling=LLAMA3),
         reference={"layer_types": [GLOBAL] * 3},
         flips={"no RoPE": ROPE_OFF, "llama3 scaling": NO_SCALING}),
    Case("exaone4_hybrid", "3:1 windows of 11 from layer_types, NoPE on the global layer, the "
         "last layer windowed",
         _exaone4(num_hidden_layers=5, sliding_window=11, sliding_window_pattern="LLLG",
                  layer_types=[LOCAL, LOCAL, LOCAL, GLOBAL, LOCAL], rope_scaling=LLAMA3),
         flips={"window + 1": {"sliding_window": 12}, "window - 1": {"sliding_window": 10},
                "global layer is windowed": {"layer_types": [LOCAL] * 5}}),
    Case("exaone4_hybrid_pattern", "the pattern LLLG without layer_types: layer 3 global, and the "
         "last layer forced global",
         _exaone4(num_hidden_layers=5, sliding_window=11, sliding_window_pattern="LLLG"),
         reference={"sliding_window_pattern": 4,
                    "layer_types": [LOCAL, LOCAL, LOCAL, GLOBAL, GLOBAL]},
         flips={"last layer is windowed": {"layer_types": [LOCAL, LOCAL, LOCAL, GLOBAL, LOCAL]}}),
    Case("hyperclovax_post_norm", "norms before and after both sub-layers, all four multipliers",
         _hyperclovax(use_post_norm=True),
         flips={"embedding multiplier": {"embedding_multiplier": 1.0},
                "attention multiplier": {"attention_multiplier": 0.25},
                "residual multiplier": {"residual_multiplier": 1.0},
                "logits scaling": {"logits_scaling": 1 / 0.37}}),
    Case("hyperclovax_plain", "no post norms, all four multipliers, tied head",
         _hyperclovax(use_post_norm=False, tie_word_embeddings=True),
         flips={"embedding multiplier": {"embedding_multiplier": 1.0},
                "attention multiplier": {"attention_multiplier": 0.25},
                "residual multiplier": {"residual_multiplier": 1.0},
                "logits scaling": {"logits_scaling": 1 / 0.37}}),
    Case("gemma3", "hub spelling: sliding_window_pattern 3, rope_local_base_freq, linear scaling "
         "of the global base only; zero-centred norms, sqrt(hidden) not a bf16 number and by "
         "torch_dtype not rounded to one, tanh GELU",
         _gemma3(torch_dtype=F32, rope_theta=1000000.0, rope_local_base_freq=5000.0,
                 sliding_window_pattern=3, rope_scaling=LINEAR),
         flips={"window + 1": {"sliding_window": 10}, "pattern": {"sliding_window_pattern": 4},
                "linear scaling": NO_SCALING, "local base": {"rope_local_base_freq": 1000000.0},
                "query scale": {"query_pre_attn_scalar": 16},
                "tanh GELU": {"hidden_activation": "silu"}}),
    Case("gemma3_parameters", "layer_types and nested `rope_parameters`; hidden 64, whose square "
         "root is exact; head_dim 24",
         _gemma3(hidden_size=64, rope_theta=..., num_key_value_heads=2,
                 layer_types=[LOCAL, GLOBAL, LOCAL, LOCAL],
                 rope_parameters={
                     GLOBAL: {"rope_type": "linear", "factor": 4.0, "rope_theta": 100000.0},
                     LOCAL: {"rope_type": "default", "rope_theta": 3000.0}})
         | {"head_dim": 24, "query_pre_attn_scalar": 40},
         flips={"layer types": {"layer_types": [LOCAL, LOCAL, LOCAL, GLOBAL]}}),
    Case("gemma3_multimodal", "hub spelling of a folder with a vision model: a `text_config` that "
         "leaves out pattern, bases, query scale and activation; names below "
         "language_model.model.; tied",
         _gemma3_multimodal(_gemma3_text(num_hidden_layers=7, rope_scaling=LINEAR),
                            torch_dtype=BF16),
         tensors={"model.language_model": "language_model.model",
                  "model.vision_tower": "vision_tower.vision_model",
                  "model.multi_modal_projector": "multi_modal_projector"},
         flips={rule: {"text_config": _gemma3_text(num_hidden_layers=7, **{
             "rope_scaling": LINEAR} | changes)} for rule, changes in {
                 "window + 1": {"sliding_window": 10}, "pattern": {"sliding_window_pattern": 7},
                 "linear scaling": NO_SCALING, "global base": {"rope_theta": 10000.0},
                 "local base": {"rope_local_base_freq": 1000000.0},
                 "query scale": {"query_pre_attn_scalar": 16},
                 "tanh GELU": {"hidden_activation": "silu"}}.items()}),
    Case("gemma3_multimodal_saved", "names below model.language_model.; the head is untied outside "
         "of `text_config`, whatever that says; float32, sqrt(hidden) not a bf16 number",
         _gemma3_multimodal(
             _gemma3_text(hidden_size=24, num_hidden_layers=2, layer_types=[LOCAL, GLOBAL],
                          tie_word_embeddings=True, rope_parameters={
                              GLOBAL: {"rope_type": "default", "rope_theta": 30000.0},
                              LOCAL: {"rope_type": "default", "rope_theta": 3000.0}}),
             dtype=F32, tie_word_embeddings=False), F32),
]
