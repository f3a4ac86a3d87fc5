# SPDX-License-Identifier: Apache-2.0
"""Names and shapes in the checkpoints of the models that Tenon knows, from the real classes with the released configurations.

Makes   models/names/MODEL.txt   `copies pattern shape` a line; a header line that starts with # names the class
Run     python -m pip install -r requirements.txt && python make_model_names.py        (one thread, a minute; no weights are made)

A pattern with a `*` stands for `copies` names, the `*` being 0 to copies - 1, all of that shape (`4096,1024`; `-` is a scalar).
There is at most one `*`, put where it says most; what differs from the other layers has a line of its own. Lines stand in the
order of the state dict, by their first name. Left out: buffers that are not saved, and the second name of a tensor that two modules
share (the lm_head of a tied decoder, T5's encoder.embed_tokens), which released files do not hold either. Names are those of
released files, which for ViT and CLIP are not those of transformers 5's modules. The script expands its lines again and compares.
"""

import math
import re

import torch
import transformers
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel, WanTransformer3DModel
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

from model_nets import MODELS, released_state

LLAMA3_8B = LlamaConfig(
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    rms_norm_eps=1e-5,
    tie_word_embeddings=False,
)
LLAMA2_7B = LlamaConfig(
    vocab_size=32000,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=32,
    rms_norm_eps=1e-5,
    tie_word_embeddings=False,
)
QWEN25_7B = Qwen2Config(
    vocab_size=152064,
    hidden_size=3584,
    intermediate_size=18944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    tie_word_embeddings=False,
)
QWEN25_05B = Qwen2Config(
    vocab_size=151936,
    hidden_size=896,
    intermediate_size=4864,
    num_hidden_layers=24,
    num_attention_heads=14,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
VIT_BASE_16 = ViTConfig(
    hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, image_size=224, patch_size=16
)
CLIP_L = CLIPTextConfig(
    vocab_size=49408,
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    projection_dim=768,
    hidden_act="quick_gelu",
)
CLIP_BIGG = CLIPTextConfig(
    vocab_size=49408,
    hidden_size=1280,
    intermediate_size=5120,
    num_hidden_layers=32,
    num_attention_heads=20,
    projection_dim=1280,
    hidden_act="gelu",
)
T5_XXL = dict(d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu")
SDXL = dict(
    sample_size=128,
    block_out_channels=(320, 640, 1280),
    layers_per_block=2,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    transformer_layers_per_block=[1, 2, 10],
    attention_head_dim=[5, 10, 20],
    cross_attention_dim=2048,
    use_linear_projection=True,
    addition_embed_type="text_time",
    addition_time_embed_dim=256,
    projection_class_embeddings_input_dim=2816,
)
FLUX_DEV = dict(
    in_channels=64,
    num_layers=19,
    num_single_layers=38,
    attention_head_dim=128,
    num_attention_heads=24,
    joint_attention_dim=4096,
    pooled_projection_dim=768,
    guidance_embeds=True,
)
WAN_14B = dict(
    num_attention_heads=40,
    attention_head_dim=128,
    in_channels=16,
    out_channels=16,
    text_dim=4096,
    freq_dim=256,
    ffn_dim=13824,
    num_layers=40,
    cross_attn_norm=True,
    qk_norm="rms_norm_across_heads",
)
WAN_I2V_14B = dict(WAN_14B, in_channels=36, image_dim=1280, added_kv_proj_dim=5120)
WAN_13B = dict(WAN_14B, num_attention_heads=12, ffn_dim=8960, num_layers=30)
SD3_MEDIUM = dict(
    num_layers=24,
    attention_head_dim=64,
    num_attention_heads=24,
    joint_attention_dim=4096,
    caption_projection_dim=1536,
    pooled_projection_dim=2048,
    pos_embed_max_size=192,
)
SD35_LARGE = dict(SD3_MEDIUM, num_layers=38, num_attention_heads=38, caption_projection_dim=2432, qk_norm="rms_norm")
SD35_MEDIUM = dict(SD3_MEDIUM, qk_norm="rms_norm", dual_attention_layers=tuple(range(13)), pos_embed_max_size=384)

NETS = {
    "llama3_8b": lambda: LlamaForCausalLM(LLAMA3_8B),
    "llama2_7b": lambda: LlamaForCausalLM(LLAMA2_7B),
    "qwen25_7b": lambda: Qwen2ForCausalLM(QWEN25_7B),
    "qwen25_05b": lambda: Qwen2ForCausalLM(QWEN25_05B),
    "vit_base_16": lambda: ViTModel(VIT_BASE_16, add_pooling_layer=False),
    "clip_l_text": lambda: CLIPTextModel(CLIP_L),
    "clip_bigg_text": lambda: CLIPTextModelWithProjection(CLIP_BIGG),
    "t5_xxl_encoder": lambda: T5EncoderModel(T5Config(vocab_size=32128, **T5_XXL)),
    "umt5_xxl_encoder": lambda: UMT5EncoderModel(UMT5Config(vocab_size=256384, **T5_XXL)),
    "sdxl_unet": lambda: UNet2DConditionModel(**SDXL),
    "flux_dev": lambda: FluxTransformer2DModel(**FLUX_DEV),
    "wan21_t2v_14b": lambda: WanTransformer3DModel(**WAN_14B),
    "wan21_i2v_14b": lambda: WanTransformer3DModel(**WAN_I2V_14B),
    "wan21_t2v_13b": lambda: WanTransformer3DModel(**WAN_13B),
    "sd3_medium": lambda: SD3Transformer2DModel(**SD3_MEDIUM),
    "sd35_large": lambda: SD3Transformer2DModel(**SD35_LARGE),
    "sd35_medium": lambda: SD3Transformer2DModel(**SD35_MEDIUM),
}


def patterns(name):
    """Every way to put one `*` in place of a number: (pattern, number)."""
    parts = name.split(".")
    return [(".".join(parts[:i] + ["*"] + parts[i + 1 :]), int(part)) for i, part in enumerate(parts) if part.isdigit()]


def collapsed(shapes):
    """(copies, pattern, shape) of all names, larger groups first taken, then in the order of the first names."""
    numbers = {}
    for name, shape in shapes.items():
        for pattern, number in patterns(name):
            numbers.setdefault((pattern, shape), set()).add(number)
    groups = []
    for (pattern, shape), found in numbers.items():
        copies = next(n for n in range(len(found) + 1) if n not in found)
        groups.append((copies, pattern, shape))
    taken, lines = set(), {}
    for copies, pattern, shape in sorted(groups, key=lambda group: -group[0]):
        names = [pattern.replace("*", str(n)) for n in range(copies)]
        if copies > 1 and taken.isdisjoint(names):
            taken.update(names)
            lines[names[0]] = (copies, pattern, shape)
    lines.update({name: (1, name, shape) for name, shape in shapes.items() if name not in taken})
    return [lines[name] for name in shapes if name in lines]


def expanded(text):
    shapes = {}
    for line in text.splitlines()[1:]:
        copies, pattern, shape = line.split(" ")
        for n in range(int(copies)):
            name = pattern.replace("*", str(n))
            assert name not in shapes, name
            shapes[name] = shape
    return shapes


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    (MODELS / "names").mkdir(parents=True, exist_ok=True)
    for name, make in NETS.items():
        with torch.device("meta"):
            model = make()
        state = released_state(model)
        shapes = {key: ",".join(map(str, tensor.shape)) or "-" for key, tensor in state.items()}
        lines = [f"{copies} {pattern} {shape}\n" for copies, pattern, shape in collapsed(shapes)]
        text = f"# {type(model).__name__}\n" + "".join(lines)
        assert expanded(text) == shapes and not any(re.search(r"\s|\*", key) for key in shapes)
        (MODELS / "names" / f"{name}.txt").write_text(text)
        numbers = sum(math.prod(tensor.shape) for tensor in state.values())
        print(f"{name:18} {len(shapes):5} tensors on {len(lines):4} lines, {numbers:14,} numbers")


if __name__ == "__main__":
    main()
