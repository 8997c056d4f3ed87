#!/usr/bin/env bash
# blank_checkpoint.sh FOLDER LAYERS HIDDEN FFN HEADS KV_HEADS HEAD_DIM VOCABULARY: a Llama
# checkpoint of any size at once, its weights a hole in the file, for measuring how fast one is
# loaded:
#   blank_checkpoint.sh /tmp/8b 32 4096 14336 32 8 128 128256
#   engine_bench --device cuda --model /tmp/8b     # twice: then the hole is in the page cache
set -euo pipefail
folder=$1 layers=$2 hidden=$3 ffn=$4 heads=$5 kv_heads=$6 head_dim=$7 vocabulary=$8
mkdir -p "$folder"
cat >"$folder/config.json" <<JSON
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
 "vocab_size": $vocabulary, "hidden_size": $hidden, "intermediate_size": $ffn, "num_hidden_layers": $layers,
 "num_attention_heads": $heads, "num_key_value_heads": $kv_heads, "head_dim": $head_dim, "hidden_act": "silu",
 "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
 "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2}
JSON

# Name, rows and columns of every tensor; a vector has no columns.
tensors() {
  local i at q=$((heads * head_dim)) kv=$((kv_heads * head_dim))
  echo "model.embed_tokens $vocabulary $hidden"
  echo "lm_head $vocabulary $hidden"
  echo "model.norm $hidden"
  for ((i = 0; i < layers; ++i)); do
    at=model.layers.$i
    echo "$at.input_layernorm $hidden"
    echo "$at.post_attention_layernorm $hidden"
    echo "$at.self_attn.q_proj $q $hidden"
    echo "$at.self_attn.k_proj $kv $hidden"
    echo "$at.self_attn.v_proj $kv $hidden"
    echo "$at.self_attn.o_proj $hidden $q"
    echo "$at.mlp.gate_proj $ffn $hidden"
    echo "$at.mlp.up_proj $ffn $hidden"
    echo "$at.mlp.down_proj $hidden $ffn"
  done
}

header='{' end=0
while read -r name rows columns; do
  begin=$end
  end=$((begin + 2 * rows * ${columns:-1}))
  header+="\"$name.weight\":{\"dtype\":\"BF16\",\"shape\":[$rows${columns:+,$columns}],"
  header+="\"data_offsets\":[$begin,$end]},"
done < <(tensors)
header=${header%,}'}'
while ((${#header} % 8)); do header+=' '; done

# The header's length as eight little-endian bytes, the header, the hole.
file=$folder/model.safetensors length=${#header}
{
  for ((i = 0; i < 8; ++i)); do
    printf "\\x$(printf %02x $((length >> 8 * i & 255)))"
  done
  printf %s "$header"
} >"$file"
truncate -s $((8 + length + end)) "$file"
