# SPDX-License-Identifier: Apache-2.0
"""Small random models of transformers' classes, what they compute, and what they compute with a LoRA of PEFT.

Makes   models/MODEL/model.safetensors      weights f32 under the names of released files (tied tensors once)
        models/MODEL/io.safetensors         inputs and outputs: computed in float64 from those weights, stored rounded to f32
        models/MODEL/bf16.safetensors       outputs from the weights rounded to bf16: in float64 (some of the keys below, and
                                            adapted.KEY), and wholly in bfloat16 (bfloat16.KEY)
        models/MODEL/adapter/               a LoRA of rank 4 and alpha 6 as PEFT saves it: llama, clip_text, t5, vit
        models/MODEL/adapter_transformers5/ the same under transformers 5's module names, where those are others: clip_text, vit
Run     python -m pip install -r requirements.txt && python make_model_goldens.py        (one thread, a minute)
        python make_model_goldens.py bf16        bf16.safetensors only, from the weights and adapters that are there

MODEL is llama (lm_head of its own), qwen2 (biases of q, k, v; tied head), vit, clip_text (quick_gelu), clip_text_projection
(gelu), t5 and umt5 (encoders, gated-gelu); the configurations are below. B is 2, T tokens, N layers, D the width. Keys of io:
  ids i32 [B, T]   mask f32 [B, T], 1 keep, 0 padding on the right (t5, umt5: an output counts only where it is 1)
  pixels f32 [B, 3, 24, 24] (vit)
  hidden.0 .. hidden.N [B, T, D]   the embeddings, then each layer's output. The last one is after the final norm in llama, qwen2,
                                   t5, umt5, and before it in vit and the CLIPs
  last_hidden_state [B, T, D]   after the final norm       logits [B, T, vocabulary] (llama, qwen2)
  pooled [B, D] (CLIPs): last_hidden_state at the first eos token, 99      text_embeds [B, P]: text_projection of it
  buckets i32 [401] (t5, umt5): the bucket of (key position - query position) = -200 .. 200, in float32 and float64 alike
  prompt i32 [1, 5], greedy i32 [1, 64] (llama, qwen2): the 64 likeliest next tokens one after another. The second likeliest is
                                   always over 1e-3 below
  adapted.KEY, merged.KEY          KEY = last_hidden_state, logits, pooled, greedy with the adapter aside, or merged by PEFT
The script fails if torch's own float32 is further than 1e-5 from these numbers, relative to the largest of a tensor.
"""

import copy
import json
import pathlib
import shutil
import sys
import tempfile
import warnings

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
    ViTConfig,
    ViTModel,
)

from kinds_nets import drawn
from model_nets import MODELS, Exact, relative, released_name, released_state, rounded, save, weight, write_bf16

VOCABULARY = 100
EOS = 99
DECODER = dict(
    vocab_size=VOCABULARY,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)
LLAMA = LlamaConfig(
    **DECODER,
    hidden_size=32,
    intermediate_size=72,
    num_hidden_layers=3,
    rms_norm_eps=1e-5,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    tie_word_embeddings=False,
)
QWEN2 = Qwen2Config(
    **DECODER,
    hidden_size=48,
    intermediate_size=64,
    num_hidden_layers=2,
    rms_norm_eps=1e-6,
    rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    tie_word_embeddings=True,
)
VIT = ViTConfig(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    hidden_act="gelu",
    layer_norm_eps=1e-12,
    image_size=24,
    patch_size=8,
    num_channels=3,
)
CLIP = dict(vocab_size=VOCABULARY, layer_norm_eps=1e-5, bos_token_id=98, eos_token_id=EOS)
CLIP_TEXT = CLIPTextConfig(
    **CLIP,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=16,
    hidden_act="quick_gelu",
    projection_dim=32,
)
CLIP_TEXT_PROJECTION = CLIPTextConfig(
    **CLIP,
    hidden_size=40,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=16,
    hidden_act="gelu",
    projection_dim=24,
)
T5 = dict(
    vocab_size=VOCABULARY,
    d_model=32,
    d_kv=12,
    d_ff=64,
    num_layers=2,
    num_heads=4,
    feed_forward_proj="gated-gelu",
    layer_norm_epsilon=1e-6,
    relative_attention_num_buckets=32,
    relative_attention_max_distance=128,
    dropout_rate=0.0,
)
QKVO = ["q_proj", "k_proj", "v_proj", "o_proj"]
MAKERS = {  # the model, the standard deviation of its matrices, the modules that the adapter changes
    "llama": (lambda: LlamaForCausalLM(copy.deepcopy(LLAMA)), 0.2, QKVO + ["gate_proj", "up_proj", "down_proj"]),
    "qwen2": (lambda: Qwen2ForCausalLM(copy.deepcopy(QWEN2)), 0.2, None),
    "vit": (lambda: ViTModel(copy.deepcopy(VIT), add_pooling_layer=False), 0.2, QKVO + ["fc1", "fc2", "projection"]),
    "clip_text": (lambda: CLIPTextModel(copy.deepcopy(CLIP_TEXT)), 0.2, QKVO[:3] + ["out_proj", "fc1", "fc2"]),
    "clip_text_projection": (lambda: CLIPTextModelWithProjection(copy.deepcopy(CLIP_TEXT_PROJECTION)), 0.2, None),
    "t5": (lambda: T5EncoderModel(T5Config(**T5)), 0.15, ["q", "k", "v", "o", "wi_0", "wi_1", "wo"]),
    "umt5": (lambda: UMT5EncoderModel(UMT5Config(**T5)), 0.15, None),
}
SEEDS = {"llama": "llama/67/", "qwen2": "qwen2/45/"}  # with these no two tokens are close where the greedy decoding passes
RELEASED_TARGETS = {"vit": ["query", "key", "value", "dense", "projection"]}


def write_weights(name):
    model = MAKERS[name][0]()
    seed, std = SEEDS.get(name, name + "/"), MAKERS[name][1]
    state = {key: weight(seed, key, tensor.shape, std) for key, tensor in released_state(model).items()}
    save(MODELS / name / "model.safetensors", state)
    with tempfile.TemporaryDirectory() as folder:  # transformers' own idea of the names, but for the prefix that it forgets
        model.save_pretrained(folder)
        names = set(load_file(folder + "/model.safetensors"))
        assert {"text_model." * (name == "clip_text") + key for key in names} == set(state)


def base_model(name, dtype=torch.float32):
    """From the file, each weight rounded to `dtype`. In `Exact` it is a model in float64, its constants not rounded either."""
    model = MAKERS[name][0]()
    model.config._attn_implementation = "eager"
    file = rounded(load_file(MODELS / name / "model.safetensors"), dtype)
    keys = {released_name(type(model).__name__, key): key for key in model.state_dict()}
    load = model.load_state_dict({keys[key]: tensor for key, tensor in file.items()}, strict=False)
    assert not load.unexpected_keys and set(load.missing_keys) <= {"lm_head.weight", "encoder.embed_tokens.weight"}
    model.tie_weights()
    return model.eval()


def write_adapter(name):
    """What PEFT saves, less its model card and what differs between runs; and under the names of released files."""
    model = base_model(name)
    kind = type(model).__name__
    config = LoraConfig(r=4, lora_alpha=6, target_modules=MAKERS[name][2], init_lora_weights=False)
    model = get_peft_model(model, config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_" in key:
                parameter.copy_((0.3 if "lora_A" in key else 0.1) * drawn(SEEDS.get(name, name + "/") + key, parameter.shape))
    with tempfile.TemporaryDirectory() as saved:
        model.save_pretrained(saved)
        state = load_file(saved + "/adapter_model.safetensors")
        config = json.loads(pathlib.Path(saved, "adapter_config.json").read_text())
    config["base_model_name_or_path"] = name
    config["target_modules"] = sorted(config["target_modules"])
    prefix = "base_model.model."
    released = {prefix + released_name(kind, key.removeprefix(prefix)): tensor for key, tensor in state.items()}
    other_config = dict(config, target_modules=sorted(RELEASED_TARGETS.get(name, config["target_modules"])))
    folders = {"adapter": (released, other_config)}
    if set(released) != set(state):
        folders["adapter_transformers5"] = (state, config)
    for folder, (tensors, settings) in folders.items():
        path = MODELS / name / folder
        path.mkdir()
        save_file(tensors, path / "adapter_model.safetensors", metadata={"format": "pt"})
        (path / "adapter_config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def adapted_model(name, merge, dtype=torch.float32):
    folder = MODELS / name / "adapter_transformers5"
    model = PeftModel.from_pretrained(base_model(name, dtype), str(folder if folder.exists() else MODELS / name / "adapter"))
    return (model.merge_and_unload() if merge else model).eval()


def inputs(name):
    if name == "vit":
        return {"pixels": drawn("x/vit", (2, 3, 24, 24))}
    if name in ("t5", "umt5"):
        generator = torch.Generator().manual_seed(40)
        mask = torch.ones(2, 40)
        mask[1, 29:] = 0
        ids = torch.randint(2, VOCABULARY, (2, 40), generator=generator)
        return {"ids": torch.where(mask == 1, ids, 0), "mask": mask}
    if name.startswith("clip"):
        pad = EOS if name == "clip_text" else 0  # as the two tokenizers of SDXL pad
        return {"ids": torch.tensor([[98, 17, 4, 61, 61, 30, EOS], [98, 5, 88, EOS, pad, pad, pad]])}
    ids = torch.tensor([[1, 42, 7, 99, 0, 63, 7], [5, 5, 80, 12, 31, 2, 96]])
    return {"ids": ids, "prompt": torch.tensor([[1, 17, 44, 3, 71]])}


def outputs(name, model, x, dtype=None):
    """What the model gives, by its key in io; `margin` is the smallest lead of the likeliest token in the greedy decoding.
    `dtype` is that of the inputs: torch's default if none."""
    dtype = dtype or torch.get_default_dtype()
    y = {}
    if name == "vit":
        got = model(pixel_values=x["pixels"].to(dtype), output_hidden_states=True)
    elif "mask" in x:
        got = model(input_ids=x["ids"], attention_mask=x["mask"].to(dtype), output_hidden_states=True)
    else:
        got = model(input_ids=x["ids"], output_hidden_states=True)
    y.update({f"hidden.{i}": hidden for i, hidden in enumerate(got.hidden_states)})
    if "logits" in got:
        y["last_hidden_state"], y["logits"] = got.hidden_states[-1], got.logits
        settings = transformers.GenerationConfig(do_sample=False, max_new_tokens=64, use_cache=True, pad_token_id=0)
        made = model.generate(
            x["prompt"],
            attention_mask=torch.ones_like(x["prompt"]),
            generation_config=settings,
            output_logits=True,
            return_dict_in_generate=True,
        )
        best = torch.stack(made.logits).topk(2, dim=-1).values
        y["greedy"], y["margin"] = made.sequences[:, x["prompt"].shape[1] :], (best[..., 0] - best[..., 1]).min()
        assert y["greedy"].shape == (1, 64)
    else:
        y["last_hidden_state"] = got.last_hidden_state
    if name == "clip_text":
        y["pooled"] = got.pooler_output
    if name == "clip_text_projection":
        y["pooled"] = got.last_hidden_state[torch.arange(2), (x["ids"] == EOS).int().argmax(-1)]
        y["text_embeds"] = got.text_embeds
        assert torch.equal(model.text_projection(y["pooled"]), y["text_embeds"])
    return y


def both(name, make, x):
    """(outputs in float64, the largest relative distance of float32 from them)"""
    single = outputs(name, make(), x)
    with Exact():
        exact = outputs(name, make(), x)
    assert all(value.dtype == torch.float64 for value in exact.values() if value.is_floating_point())
    if "greedy" in exact:
        assert torch.equal(exact["greedy"], single["greedy"]) and min(exact["margin"], single["margin"]) > 1e-3
    valid = x["mask"].bool() if "mask" in x else ...
    gaps = {k: relative(single[k][valid], v[valid]) for k, v in exact.items() if k not in ("greedy", "margin")}
    assert max(gaps.values()) < 1e-5, gaps
    return exact, max(gaps.values())


def buckets(model):
    attention, positions = model.encoder.block[0].layer[0].SelfAttention, torch.arange(-200, 201)
    arguments = () if isinstance(model, UMT5EncoderModel) else (True, 32, 128)
    single = attention._relative_position_bucket(positions, *arguments)
    with Exact():
        assert torch.equal(single, attention._relative_position_bucket(positions, *arguments))
    return single


def with_bf16_weights(name):
    x = inputs(name)
    keys = {"llama": ["logits"], "qwen2": ["logits"], "clip_text": ["last_hidden_state", "pooled"]}
    keys["clip_text_projection"] = ["last_hidden_state", "text_embeds"]
    write_bf16(
        name,
        keys.get(name, ["last_hidden_state"]),
        lambda: base_model(name, torch.bfloat16),
        lambda model, dtype: outputs(name, model, x, dtype),
        (lambda: adapted_model(name, False, torch.bfloat16)) if MAKERS[name][2] else None,
        x["mask"].bool() if "mask" in x else ...,
    )


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if sys.argv[1:] == ["bf16"]:
        for name in MAKERS:
            with_bf16_weights(name)
        return
    for name, (_, _, targets) in MAKERS.items():
        shutil.rmtree(MODELS / name, ignore_errors=True)
        write_weights(name)
        x = inputs(name)
        y, gap = both(name, lambda: base_model(name), x)
        keep = {**x, **{k: v for k, v in y.items() if k != "margin"}}
        said = f"{name:21} f32 against f64 {gap:.1e}, largest {max(v.abs().max() for k, v in y.items() if k != 'greedy'):.1f}"
        if "greedy" in y:
            said += f", margin {y['margin']:.4f}, {len(set(y['greedy'][0].tolist()))} tokens of 64 differ"
        print(said)
        if "mask" in x:
            keep["buckets"] = buckets(base_model(name))
        if targets:
            write_adapter(name)
            for merge, prefix in ((False, "adapted."), (True, "merged.")):
                z, gap = both(name, lambda: adapted_model(name, merge), x)
                keys = [k for k in ("last_hidden_state", "logits", "pooled", "greedy") if k in z]
                keep.update({prefix + k: z[k] for k in keys})
                change = relative(z["last_hidden_state"], y["last_hidden_state"])
                said = f"    {prefix:8} f32 against f64 {gap:.1e}, {change:.2f} from the base"
                print(said + (f", margin {z['margin']:.4f}" if "margin" in z else ""))
        save(MODELS / name / "io.safetensors", keep)
        with_bf16_weights(name)
        print(f"    {sum(p.stat().st_size for p in (MODELS / name).rglob('*.*')):,} bytes")


if __name__ == "__main__":
    main()
