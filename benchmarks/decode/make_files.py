# SPDX-License-Identifier: Apache-2.0
# Writes the models that both sides read, as transformers saves them; a folder that is there is left as it is.
#   make_files.py FOLDER [--quick]
# tiny is the Llama of tests/goldens/models; qwen25_05b has the shape of Qwen 2.5 0.5B and random weights.
import os
import pathlib
import shutil
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers
from safetensors.torch import load_file

from sets import wanted

GOLDENS = pathlib.Path(__file__).resolve().parents[2] / "tests" / "goldens" / "models"
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
TINY = transformers.LlamaConfig(
    vocab_size=100,
    hidden_size=32,
    intermediate_size=72,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    rms_norm_eps=1e-5,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    tie_word_embeddings=False,
)
QWEN25_05B = transformers.Qwen2Config(
    vocab_size=151936,
    hidden_size=896,
    intermediate_size=4864,
    num_hidden_layers=24,
    num_attention_heads=14,
    num_key_value_heads=2,
    max_position_embeddings=32768,
    rms_norm_eps=1e-6,
    rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    tie_word_embeddings=True,
)


def tiny():
    model = transformers.LlamaForCausalLM(TINY)
    model.load_state_dict(load_file(GOLDENS / "llama" / "model.safetensors"), strict=True)
    return model


def qwen25_05b():
    torch.manual_seed(1)
    model = transformers.Qwen2ForCausalLM(QWEN25_05B)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # transformers begins with zeros
            parameter.normal_(0, 0.02)
    return model


@torch.no_grad()
def main():
    transformers.logging.disable_progress_bar()
    root = pathlib.Path(sys.argv[1])
    for entry in wanted("--quick" in sys.argv):
        done = root / f"{entry.net}_{entry.dtype}"
        if done.exists():
            continue
        print(f"making {done}", flush=True)
        part = done.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        {"tiny": tiny, "qwen25_05b": qwen25_05b}[entry.net]().to(DTYPES[entry.dtype]).save_pretrained(part, max_shard_size="10GB")
        part.rename(done)


main()
