# SPDX-License-Identifier: Apache-2.0
"""The modules of the big models and the keys of the adapters that the big tools write for them: names and shapes, no numbers.

Makes   kinds/models/MODEL.tsv   module TAB shape of its weight TAB its name elsewhere, after a header line that starts with #
        kinds/keys/SET.tsv       key TAB dtype TAB shape TAB mapped, after a header line that says who mapped it
        kinds/keys/values.safetensors, values.tsv   small conversions that change numbers, before and after
Run     python -m pip install -r requirements.txt && python make_key_sets.py        (one thread, a minute, 1 GB)

Models are the real classes of diffusers and transformers on the meta device, with the configuration of the released checkpoint.
Names in other layouts (sgm for SDXL, BFL for Flux, the original for Wan) are formed by the rules below; where diffusers converts a
key set, the set is handed to its loader and the last column is what the loader made of it, so a wrong rule is an error here. In the
last column ` + ` joins the targets of a fused tensor in the order of its rows, `(folded)` is an alpha that diffusers multiplied into
the matrices, `alpha` one that it keeps aside, `-` a key that it drops. The first set of each model has all blocks, the others a few.
"""

import re
import warnings

import diffusers
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel, WanTransformer3DModel
from diffusers.loaders.lora_pipeline import (
    FluxLoraLoaderMixin,
    StableDiffusionLoraLoaderMixin,
    StableDiffusionXLLoraLoaderMixin,
    WanLoraLoaderMixin,
)
from diffusers.utils.state_dict_utils import convert_state_dict_to_peft, convert_unet_state_dict_to_peft
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from kinds_nets import KINDS, drawn

MODELS, KEYS = KINDS / "models", KINDS / "keys"
DIFFUSERS = f"diffusers {diffusers.__version__}"
SD15 = dict(cross_attention_dim=768, attention_head_dim=8, block_out_channels=(320, 640, 1280, 1280), layers_per_block=2)
SDXL = dict(
    sample_size=128,
    cross_attention_dim=2048,
    attention_head_dim=[5, 10, 20],
    block_out_channels=(320, 640, 1280),
    transformer_layers_per_block=[1, 2, 10],
    use_linear_projection=True,
    addition_embed_type="text_time",
    addition_time_embed_dim=256,
    projection_class_embeddings_input_dim=2816,
    layers_per_block=2,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
)
WAN_14B = dict(
    num_attention_heads=40,
    attention_head_dim=128,
    ffn_dim=13824,
    num_layers=40,
    text_dim=4096,
    freq_dim=256,
    cross_attn_norm=True,
    qk_norm="rms_norm_across_heads",
)
WAN_MODELS = {
    "wan21_t2v_14b": dict(WAN_14B, in_channels=16, out_channels=16),
    "wan21_i2v_14b": dict(WAN_14B, in_channels=36, out_channels=16, image_dim=1280, added_kv_proj_dim=5120),
    "wan21_t2v_1_3b": dict(WAN_14B, in_channels=16, out_channels=16, num_attention_heads=12, ffn_dim=8960, num_layers=30),
}
CLIP_L = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768)
CLIP_G = dict(hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280)


def modules_of(model, kinds=(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding, nn.LayerNorm, nn.GroupNorm)):
    """Module path -> (shape of its weight, module), for every module with a weight of its own."""
    return {
        path: (tuple(module.weight.shape), module)
        for path, module in model.named_modules()
        if isinstance(getattr(module, "weight", None), torch.Tensor) and (kinds is None or isinstance(module, kinds))
    }


def on_meta(make):
    with torch.device("meta"):
        return make()


# ---------------------------------------------------------------- names in other layouts


def sgm_name(path, levels=3, resnets=2):
    """An SDXL UNet's module path in diffusers -> in sgm, the layout of the released checkpoint and of kohya's SDXL."""
    inner = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
    top = {
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
    }
    if path in top:
        return top[path]
    if m := re.fullmatch(r"down_blocks\.(\d+)\.(resnets|attentions|downsamplers)\.(\d+)\.(.*)", path):
        block, what, layer, rest = int(m[1]), m[2], int(m[3]), m[4]
        if what == "downsamplers":
            return f"input_blocks.{(resnets + 1) * (block + 1)}.0.op"
        number = (resnets + 1) * block + layer + 1
        return f"input_blocks.{number}.0.{inner[rest]}" if what == "resnets" else f"input_blocks.{number}.1.{rest}"
    if m := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", path):
        return f"middle_block.{2 * int(m[2])}.{inner[m[3]]}" if m[1] == "resnets" else f"middle_block.1.{m[3]}"
    if m := re.fullmatch(r"up_blocks\.(\d+)\.(resnets|attentions|upsamplers)\.(\d+)\.(.*)", path):
        block, what, layer, rest = int(m[1]), m[2], int(m[3]), m[4]
        if what == "upsamplers":
            return f"output_blocks.{(resnets + 1) * block + resnets}.2.conv"
        number = (resnets + 1) * block + layer
        return f"output_blocks.{number}.0.{inner[rest]}" if what == "resnets" else f"output_blocks.{number}.1.{rest}"
    raise ValueError(path)


def bfl_modules(flux):
    """Flux in the layout of Black Forest Labs: module -> (shape, the diffusers modules whose rows it holds, in order)."""
    shapes = {path: shape for path, (shape, _) in flux.items()}
    table = {
        "img_in": ["x_embedder"],
        "txt_in": ["context_embedder"],
        "final_layer.linear": ["proj_out"],
        "final_layer.adaLN_modulation.1": ["norm_out.linear"],
    }
    for ours, theirs in (("time_in", "timestep_embedder"), ("vector_in", "text_embedder"), ("guidance_in", "guidance_embedder")):
        table[ours + ".in_layer"] = [f"time_text_embed.{theirs}.linear_1"]
        table[ours + ".out_layer"] = [f"time_text_embed.{theirs}.linear_2"]
    for i in range(1 + max(int(p.split(".")[1]) for p in shapes if p.startswith("transformer_blocks."))):
        b, d = f"double_blocks.{i}.", f"transformer_blocks.{i}."
        for stream, qkv, out, ff, norm in (
            ("img", "to_{}", "to_out.0", "ff", "norm1"),
            ("txt", "add_{}_proj", "to_add_out", "ff_context", "norm1_context"),
        ):
            table[f"{b}{stream}_mod.lin"] = [f"{d}{norm}.linear"]
            table[f"{b}{stream}_attn.qkv"] = [d + "attn." + qkv.format(x) for x in "qkv"]
            table[f"{b}{stream}_attn.proj"] = [f"{d}attn.{out}"]
            table[f"{b}{stream}_mlp.0"] = [f"{d}{ff}.net.0.proj"]
            table[f"{b}{stream}_mlp.2"] = [f"{d}{ff}.net.2"]
    for i in range(1 + max(int(p.split(".")[1]) for p in shapes if p.startswith("single_transformer_blocks."))):
        b, d = f"single_blocks.{i}.", f"single_transformer_blocks.{i}."
        table[b + "modulation.lin"] = [d + "norm.linear"]
        table[b + "linear1"] = [d + "attn." + x for x in ("to_q", "to_k", "to_v")] + [d + "proj_mlp"]
        table[b + "linear2"] = [d + "proj_out"]
    used = [part for parts in table.values() for part in parts]
    assert len(used) == len(set(used))
    return {name: ((sum(shapes[p][0] for p in parts), *shapes[parts[0]][1:]), parts) for name, parts in table.items()}


def wan_original(path):
    """A Wan module path in diffusers -> in the original checkpoint, which DiffSynth and ComfyUI use."""
    for ours, theirs in (
        ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
        ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
        ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
        ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
        ("condition_embedder.time_proj", "time_projection.1"),
        ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
        ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
        ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
        ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
        ("proj_out", "head.head"),
        ("patch_embedding", "patch_embedding"),
    ):
        if path == ours:
            return theirs
    m = re.fullmatch(r"blocks\.(\d+)\.(.*)", path)
    if m is None:
        return None
    rest = m[2]
    for ours, theirs in (
        ("attn1.", "self_attn."),
        ("attn2.", "cross_attn."),
        ("norm2", "norm3"),
        ("to_out.0", "o"),
        ("add_k_proj", "k_img"),
        ("add_v_proj", "v_img"),
        ("norm_added_k", "norm_k_img"),
        ("to_q", "q"),
        ("to_k", "k"),
        ("to_v", "v"),
        ("net.0.proj", "0"),
        ("net.2", "2"),
    ):
        rest = rest.replace(ours, theirs)
    return f"blocks.{m[1]}.{rest}"


# ---------------------------------------------------------------- files


def write(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("# " + header + "\n" + "".join("\t".join(row) + "\n" for row in rows))
    print(f"{path.relative_to(KINDS)}: {len(rows)} rows, {path.stat().st_size // 1024} KiB")


def shown(shape):
    return "x".join(map(str, shape)) if shape else "scalar"


def write_model(name, modules, elsewhere, what):
    write(
        MODELS / f"{name}.tsv",
        f"module\tshape\t{what}",
        [[p, shown(shape), elsewhere(p) or "-"] for p, (shape, _) in modules.items()],
    )


def pair(module, shape, rank, a="lora_down.weight", b="lora_up.weight", dtype="F16", alpha=True):
    """Rows (key, dtype, shape) of one module's low-rank pair, for a linear or a convolution."""
    rows = [(f"{module}.{a}", dtype, (rank, *shape[1:])), (f"{module}.{b}", dtype, (shape[0], rank, *(1 for _ in shape[2:])))]
    return rows + ([(f"{module}.alpha", dtype, ())] if alpha else [])


def numbered(rows, tiny):
    """A state dict in which every tensor holds nothing but its row's number, +1. `tiny` gives the few dimensions that a converter
    looks at. Alphas hold their pair's rank as it is then, so nothing is scaled."""
    state, rank = {}, {}
    for number, (key, _, shape) in enumerate(rows):
        if not key.endswith(".alpha"):
            state[key] = torch.full(tuple(tiny(key, shape)), float(number + 1), dtype=torch.float32)
            if key.endswith("lora_down.weight"):
                rank[key.removesuffix(".lora_down.weight")] = state[key].shape[0]
    return {key: state[key] if key in state else torch.tensor(float(rank[key.removesuffix(".alpha")])) for key, _, _ in rows}


def targets(rows, converted, alphas=None):
    """key -> the text of the last column, from the numbers that came out."""
    by_number = {}
    for name, value in converted.items():
        numbers = value.unique()
        numbers = numbers[numbers != 0]
        assert numbers.numel() == 1, (name, numbers)
        by_number.setdefault(int(numbers.item()) - 1, []).append(name)
    column = []
    for number, (key, dtype, shape) in enumerate(rows):
        if key.endswith(".alpha"):
            column.append("(folded)" if alphas is None else "alpha")
        else:
            column.append(" + ".join(by_number.get(number, ["-"])))
    return column


def write_keys(name, header, rows, column):
    write(
        KEYS / f"{name}.tsv",
        f"key\tdtype\tshape\tmapped by {header}",
        [[key, dtype, shown(shape), mapped] for (key, dtype, shape), mapped in zip(rows, column)],
    )


def flat(path):
    return path.replace(".", "_")


def few(entries, blocks=("0", "1", "10")):
    """Of a model's blocks, which repeat, only some: for the sets after the first of each model."""
    return {p: e for p, e in entries.items() if (n := re.match(r"(?:\w*blocks|.*layers)\.(\d+)\.", p)) is None or n[1] in blocks}


def in_transformer(path):
    return ".attentions." in path


def clip_linears(config):
    model = on_meta(lambda: CLIPTextModelWithProjection(CLIPTextConfig(**config)))
    return {path: entry for path, entry in modules_of(model, (nn.Linear,)).items() if "encoder.layers" in path}


# ---------------------------------------------------------------- the sets


def diffusers_to_peft(state):
    """The last step of diffusers' loading: names of layers, not of attention processors."""
    unet = convert_unet_state_dict_to_peft({k: v for k, v in state.items() if k.startswith("unet.")})
    text = {k: v for k, v in state.items() if k.startswith("text_encoder")}
    for prefix in ("text_encoder.", "text_encoder_2."):
        part = {k: v for k, v in text.items() if k.startswith(prefix)}
        if part:
            unet |= convert_state_dict_to_peft(part) if not any("lora_A" in k for k in part) else part
    return unet


def stable_diffusion(unet15, unetxl, clip_l, clip_g):
    def adapted(unet, kinds=(nn.Linear, nn.Conv2d)):
        # kohya's LoCon: everything linear or convolutional in transformers, resnets and samplers
        return {
            p: e
            for p, e in unet.items()
            if isinstance(e[1], kinds) and re.search(r"\.(attentions|resnets|(down|up)samplers)\.", p)
        }

    def check(state, unet, texts):
        known = {"unet." + p for p in unet} | {prefix + p for prefix, clip in texts.items() for p in clip}
        wrong = [k for k in state if re.sub(r"\.lora_[AB]\.weight$", "", k) not in known]
        assert not wrong, wrong[:5]

    tiny = lambda key, shape: (1,) * max(1, len(shape))
    rows = [row for p, (shape, _) in adapted(unet15).items() for row in pair("lora_unet_" + flat(p), shape, 16)]
    rows += [row for p, (shape, _) in clip_l.items() for row in pair("lora_te_" + flat(p), shape, 16)]
    state, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(numbered(rows, tiny), unet_config=unet15_config)
    state = diffusers_to_peft(state)
    check(state, unet15, {"text_encoder.": clip_l})
    write_keys("kohya_sd15", f"{DIFFUSERS}, StableDiffusionLoraLoaderMixin", rows, targets(rows, state, alphas))

    rows = [row for p, (shape, _) in adapted(unetxl).items() for row in pair("lora_unet_" + flat(sgm_name(p)), shape, 16)]
    rows += [row for p, (shape, _) in few(clip_l).items() for row in pair("lora_te1_" + flat(p), shape, 16)]
    rows += [row for p, (shape, _) in few(clip_g).items() for row in pair("lora_te2_" + flat(p), shape, 16)]
    state, alphas = StableDiffusionXLLoraLoaderMixin.lora_state_dict(numbered(rows, tiny), unet_config=unetxl_config)
    state = diffusers_to_peft(state)
    check(state, unetxl, {"text_encoder.": clip_l, "text_encoder_2.": clip_g})
    write_keys("kohya_sdxl", f"{DIFFUSERS}, StableDiffusionXLLoraLoaderMixin", rows, targets(rows, state, alphas))

    # OneTrainer's own layout for SDXL: kohya's prefixes on diffusers' paths. Attention and feed-forward only.
    picked = {p: e for p, e in adapted(unetxl, (nn.Linear,)).items() if re.search(r"transformer_blocks\.0\.(attn\d|ff)\.", p)}
    rows = [row for p, (shape, _) in picked.items() for row in pair("lora_unet_" + flat(p), shape, 16, dtype="BF16")]
    state, alphas = StableDiffusionXLLoraLoaderMixin.lora_state_dict(numbered(rows, tiny), unet_config=unetxl_config)
    state = diffusers_to_peft(state)
    check(state, unetxl, {})
    write_keys("onetrainer_sdxl", f"{DIFFUSERS}, StableDiffusionXLLoraLoaderMixin", rows, targets(rows, state, alphas))

    # diffusers of 2023: attention processors in the UNet, lora_linear_layer in the text encoder
    rows = []
    for p, (shape, _) in unet15.items():
        if m := re.fullmatch(r"(.*\.attn[12])\.(to_q|to_k|to_v|to_out)(\.0)?", p):
            rows += pair(f"unet.{m[1]}.processor.{m[2]}_lora", shape, 4, "down.weight", "up.weight", "F32", alpha=False)
    for p, (shape, _) in clip_l.items():
        if ".self_attn." in p:
            rows += pair(f"text_encoder.{p}.lora_linear_layer", shape, 4, "down.weight", "up.weight", "F32", alpha=False)
    state, _ = StableDiffusionLoraLoaderMixin.lora_state_dict(numbered(rows, tiny))
    state = diffusers_to_peft(state)
    check(state, unet15, {"text_encoder.": clip_l})
    write_keys("diffusers_old_sd15", f"{DIFFUSERS}, StableDiffusionLoraLoaderMixin", rows, targets(rows, state))

    # diffusers of today: SDXL's UNet and both text encoders, no alphas (they are in the header's lora_adapter_metadata)
    rows = [
        row
        for p, (shape, _) in unetxl.items()
        if re.search(r"blocks\.[01]\.attn[12]\.to_(q|k|v|out\.0)$", p)
        for row in pair("unet." + p, shape, 16, "lora_A.weight", "lora_B.weight", "F16", alpha=False)
    ]
    for prefix, clip in (("text_encoder.", clip_l), ("text_encoder_2.", clip_g)):
        rows += [
            row
            for p, (shape, _) in clip.items()
            if re.search(r"layers\.(0|11)\.self_attn\.", p)
            for row in pair(prefix + p, shape, 16, "lora_A.weight", "lora_B.weight", "F16", alpha=False)
        ]
    state, _ = StableDiffusionXLLoraLoaderMixin.lora_state_dict(numbered(rows, tiny))
    check(state, unetxl, {"text_encoder.": clip_l, "text_encoder_2.": clip_g})
    write_keys("diffusers_sdxl", f"{DIFFUSERS}, StableDiffusionXLLoraLoaderMixin", rows, targets(rows, state))


def flux_sets(flux, bfl, clip_l):
    linears = {p: shape for p, (shape, module) in flux.items() if isinstance(module, nn.Linear)}
    blocks = {p: entry for p, entry in bfl.items() if p.startswith(("double_blocks", "single_blocks"))}
    # a fused tensor must be split by rows: whole output sizes, one rank
    tiny = lambda key, shape: (shape[0], 1) if "linear1" in key and "lora_up" in key else (3, 1) if "lora_up" in key else (1, 1)

    def check(state):
        wrong = [
            k
            for k in state
            if re.sub(r"\.lora_[AB]\.weight$", "", k).removeprefix("transformer.") not in linears
            and not k.startswith("text_encoder.")
        ]
        assert not wrong, wrong[:5]

    rows = [row for p, (shape, _) in blocks.items() for row in pair("lora_unet_" + flat(p), shape, 16, dtype="BF16")]
    rows += [row for p, (shape, _) in few(clip_l).items() for row in pair("lora_te1_" + flat(p), shape, 16, dtype="BF16")]
    state = FluxLoraLoaderMixin.lora_state_dict(numbered(rows, tiny))
    text = {k: v for k, v in state.items() if k.startswith("text_encoder.")}
    state = {k: v for k, v in state.items() if k not in text} | convert_state_dict_to_peft(text)
    check(state)
    write_keys("kohya_flux", f"{DIFFUSERS}, FluxLoraLoaderMixin", rows, targets(rows, state))

    rows = [row for p, (shape, _) in few(blocks).items() for row in pair("diffusion_model." + p, shape, 16, dtype="BF16")]
    state = FluxLoraLoaderMixin.lora_state_dict(numbered(rows, tiny))
    check(state)
    write_keys("comfy_flux", f"{DIFFUSERS}, FluxLoraLoaderMixin", rows, targets(rows, state))

    def by_table(prefix, a, b, dtype, alpha, name, header, picked):
        rows, column = [], []
        for p, (shape, parts) in picked.items():
            for key, kind, row_shape in pair(prefix + p, shape, 16, a, b, dtype, alpha):
                rows.append((key, kind, row_shape))
                suffix = "lora_A.weight" if a in key else "lora_B.weight"
                column.append(
                    "(folded)" if key.endswith(".alpha") else " + ".join(f"transformer.{part}.{suffix}" for part in parts)
                )
        write_keys(name, header, rows, column)

    by_table(
        "diffusion_model.", "lora_A.weight", "lora_B.weight", "BF16", False, "comfy_flux_ab", "models/flux_bfl.tsv", few(blocks)
    )

    wanted = {p: shape for p, shape in linears.items() if "blocks." in p}
    rows = [
        row
        for p, shape in wanted.items()
        for row in pair("transformer." + p, shape, 16, "lora_A.weight", "lora_B.weight", "BF16", False)
    ]
    state = FluxLoraLoaderMixin.lora_state_dict(numbered(rows, lambda key, shape: (1, 1)))
    check(state)
    write_keys("diffusers_flux", f"{DIFFUSERS}, FluxLoraLoaderMixin", rows, targets(rows, state))

    rows = []
    for i in (0, 1, 10):
        for n in (1, 2):
            rows += pair(f"double_blocks.{i}.processor.qkv_lora{n}", (9216, 3072), 16, "down.weight", "up.weight", "BF16", False)
            rows += pair(f"double_blocks.{i}.processor.proj_lora{n}", (3072, 3072), 16, "down.weight", "up.weight", "BF16", False)
    for i in (0, 1, 10):
        rows += pair(f"single_blocks.{i}.processor.qkv_lora", (9216, 3072), 16, "down.weight", "up.weight", "BF16", False)
        rows += pair(f"single_blocks.{i}.processor.proj_lora", (3072, 15360), 16, "down.weight", "up.weight", "BF16", False)
    state = FluxLoraLoaderMixin.lora_state_dict(numbered(rows, lambda key, shape: (3, 1) if ".up." in key else (1, 1)))
    check(state)
    write_keys("xlabs_flux", f"{DIFFUSERS}, FluxLoraLoaderMixin", rows, targets(rows, state))

    # OneTrainer's own layout for Flux, which diffusers' loader knows for attention, embedders and the text encoder
    known = {p: shape for p, shape in few(wanted).items() if ".attn." in p}
    rows = [row for p, shape in known.items() for row in pair("lora_transformer_" + flat(p), shape, 16, dtype="BF16")]
    rows += [row for p, (shape, _) in few(clip_l).items() for row in pair("lora_te1_" + flat(p), shape, 16, dtype="BF16")]
    state = FluxLoraLoaderMixin.lora_state_dict(numbered(rows, lambda key, shape: (1, 1)))
    check(state)
    write_keys("onetrainer_flux", f"{DIFFUSERS}, FluxLoraLoaderMixin", rows, targets(rows, state))

    # the OMI layout: BFL paths with one tensor per part of what BFL fuses
    rows, column = [], []
    for p, (shape, parts) in few(blocks).items():
        for n, part in enumerate(parts):
            name = f"transformer.{p}.{n}" if len(parts) > 1 else f"transformer.{p}"
            for key, kind, row_shape in pair(name, linears[part], 16, dtype="BF16"):
                rows.append((key, kind, row_shape))
                column.append(
                    "(folded)"
                    if key.endswith(".alpha")
                    else f"transformer.{part}.lora_" + ("A" if "down" in key else "B") + ".weight"
                )
    write_keys("omi_flux", "models/flux_bfl.tsv", rows, column)


def wan_sets(wans):
    def adapted(modules):
        return {
            p: (shape, wan_original(p))
            for p, (shape, module) in modules.items()
            if isinstance(module, nn.Linear)
            and re.match(r"blocks\.\d+\.(attn[12]\.(to_[qkv]|to_out\.0|add_[kv]_proj)$|ffn\.)", p)
        }

    def check(state, modules):
        wrong = [k for k in state if re.sub(r"\.lora_[AB]\.(weight|bias)$", "", k).removeprefix("transformer.") not in modules]
        assert not wrong, wrong[:5]

    tiny = lambda key, shape: (1,) * max(1, len(shape))
    convert = lambda rows: WanLoraLoaderMixin.lora_state_dict(numbered(rows, tiny))
    t2v, i2v = wans["wan21_t2v_14b"], wans["wan21_i2v_14b"]
    loader = f"{DIFFUSERS}, WanLoraLoaderMixin"

    rows = [
        row
        for shape, name in few(adapted(t2v)).values()
        for row in pair("diffusion_model." + name, shape, 32, "lora_A.weight", "lora_B.weight", "BF16", False)
    ]
    state = convert(rows)
    check(state, t2v)
    write_keys("comfy_wan_t2v", loader, rows, targets(rows, state))

    # a distillation adapter as ComfyUI's extraction writes it: pairs with alphas, bias differences, norm differences
    rows = []
    for p, (shape, module) in few(i2v).items():
        name = wan_original(p)
        if p in adapted(i2v):
            rows += pair("diffusion_model." + name, shape, 32, dtype="F16")
            rows.append((f"diffusion_model.{name}.diff_b", "F16", (shape[0],)))
        elif name and re.search(r"norm", name) and name.startswith("blocks."):
            rows.append((f"diffusion_model.{name}.diff", "F16", shape))
            if getattr(module, "bias", None) is not None:
                rows.append((f"diffusion_model.{name}.diff_b", "F16", shape))
    for name in (
        "text_embedding.0",
        "text_embedding.2",
        "time_embedding.0",
        "time_embedding.2",
        "time_projection.1",
        "head.head",
    ):
        shape = next(s for p, (s, _) in i2v.items() if wan_original(p) == name)
        rows += pair("diffusion_model." + name, shape, 32, dtype="F16", alpha=False)
        rows.append((f"diffusion_model.{name}.diff_b", "F16", (shape[0],)))
    state = convert(rows)
    check(state, i2v)
    write_keys("comfy_wan_i2v", loader, rows, targets(rows, state))

    rows = [
        row
        for shape, name in few(adapted(i2v), ("0", "1", "2", "3")).values()
        for row in pair("lora_unet_" + flat(name), shape, 32, dtype="BF16")
    ]
    state = convert(rows)
    check(state, i2v)
    write_keys("musubi_wan_i2v", loader, rows, targets(rows, state))

    rows, column = [], []
    for p, (shape, name) in few(adapted(i2v)).items():
        rows += pair(name, shape, 32, "lora_A.default.weight", "lora_B.default.weight", "BF16", False)
        column += [f"transformer.{p}.lora_A.weight", f"transformer.{p}.lora_B.weight"]
    write_keys("diffsynth_wan_i2v", "models/wan21_i2v_14b.tsv", rows, column)

    rows = [
        row
        for p, (shape, _) in few(adapted(t2v)).items()
        for row in pair("transformer." + p, shape, 32, "lora_A.weight", "lora_B.weight", "BF16", False)
    ]
    state = convert(rows)
    check(state, t2v)
    write_keys("diffusers_wan_t2v", loader, rows, targets(rows, state))


# ---------------------------------------------------------------- conversions that change numbers


def values():
    tensors, rows = {}, []

    def case(name, state, loader, **options):
        given = {k: v.clone() for k, v in state.items()}
        result = loader.lora_state_dict(given, **options)
        result, alphas = result if isinstance(result, tuple) else (result, None)
        for key, value in state.items():
            tensors[f"{name}/in/{key}"] = value
        for key, value in result.items():
            tensors[f"{name}/out/{key}"] = value.contiguous().clone()
        for key, value in (alphas or {}).items():
            tensors[f"{name}/alpha/{key}"] = torch.tensor(float(value))
        rows.append([name, loader.__name__, str(len(state)), str(len(result))])

    def low_rank(module, out, wide, rank, alpha=None, dtype=torch.float32, down="lora_down.weight", up="lora_up.weight"):
        state = {
            f"{module}.{down}": drawn("A" + module, (rank, wide)).to(dtype),
            f"{module}.{up}": drawn("B" + module, (out, rank)).to(dtype),
        }
        return state | ({} if alpha is None else {f"{module}.alpha": torch.tensor(float(alpha), dtype=dtype)})

    block = "lora_unet_double_blocks_3_"
    case("kohya_flux_dense_qkv", low_rank(block + "img_attn_qkv", 18, 8, 3, 1), FluxLoraLoaderMixin)
    sparse = low_rank(block + "txt_attn_qkv", 18, 8, 6, 3)
    up = sparse[block + "txt_attn_qkv.lora_up.weight"]
    for i in range(3):
        for j in range(3):
            if i != j:
                up[6 * i : 6 * i + 6, 2 * j : 2 * j + 2] = 0
    case("kohya_flux_sparse_qkv", sparse, FluxLoraLoaderMixin)
    case(
        "kohya_flux_plain",
        low_rank(block + "img_mlp_0", 12, 8, 4, 1)
        | low_rank(block + "img_mod_lin", 12, 8, 4, 8)
        | low_rank(block + "txt_attn_proj", 8, 8, 2, None)
        | low_rank("lora_unet_single_blocks_7_linear2", 8, 20, 4, 0.5)
        | low_rank("lora_te1_text_model_encoder_layers_2_mlp_fc1", 12, 8, 4, 1),
        FluxLoraLoaderMixin,
    )
    case("kohya_flux_plain_f16", low_rank(block + "img_mlp_0", 12, 8, 3, 1, torch.float16), FluxLoraLoaderMixin)
    case(
        "kohya_flux_linear1", low_rank("lora_unet_single_blocks_0_linear1", 21504, 4, 1, 0.3, torch.bfloat16), FluxLoraLoaderMixin
    )
    case(
        "kohya_flux_final_layer",
        low_rank("lora_unet_final_layer_adaLN_modulation_1", 12, 8, 2) | low_rank("lora_unet_final_layer_linear", 6, 8, 2),
        FluxLoraLoaderMixin,
    )
    case(
        "xlabs_flux_qkv",
        low_rank("double_blocks.3.processor.qkv_lora1", 18, 8, 2, down="down.weight", up="up.weight")
        | low_rank("single_blocks.5.processor.qkv_lora", 18, 8, 2, down="down.weight", up="up.weight"),
        FluxLoraLoaderMixin,
    )
    case(
        "onetrainer_flux",
        low_rank("lora_transformer_transformer_blocks_3_attn_to_q", 8, 8, 4, 1)
        | low_rank("lora_transformer_single_transformer_blocks_30_attn_to_k", 8, 8, 2, 3),
        FluxLoraLoaderMixin,
    )
    case(
        "comfy_wan_alpha_and_biases",
        {
            "diffusion_model." + k: v
            for k, v in (
                low_rank("blocks.0.self_attn.q", 8, 8, 4, 1)
                | low_rank("blocks.0.cross_attn.o", 8, 8, 4, 6)
                | low_rank("blocks.0.ffn.0", 12, 8, 3, 1)
                | {"blocks.0.self_attn.q.diff_b": drawn("bq", (8,)), "blocks.0.ffn.0.diff_b": drawn("bf", (12,))}
            ).items()
        },
        WanLoraLoaderMixin,
    )
    musubi = {}
    for name in [f"self_attn_{x}" for x in "qkvo"] + [f"cross_attn_{x}" for x in "qkvo"] + ["ffn_0", "ffn_2"]:
        musubi |= low_rank("lora_unet_blocks_0_" + name, 12 if name == "ffn_0" else 8, 12 if name == "ffn_2" else 8, 4, 1)
    case("musubi_wan", musubi, WanLoraLoaderMixin)
    unet = "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_"
    case(
        "kohya_sd15_alphas",
        low_rank(unet + "attn1_to_q", 8, 8, 4, 1)
        | low_rank(unet + "attn1_to_out_0", 8, 8, 4, 2)
        | low_rank(unet + "ff_net_0_proj", 12, 8, 2, 2)
        | low_rank("lora_te_text_model_encoder_layers_0_self_attn_q_proj", 8, 8, 4, 1)
        | low_rank("lora_te_text_model_encoder_layers_0_mlp_fc1", 12, 8, 4, 3),
        StableDiffusionLoraLoaderMixin,
        unet_config=unet15_config,
    )
    save_file(tensors, KEYS / "values.safetensors")
    write(KEYS / "values.tsv", "case\tthe diffusers loader\tkeys in\tkeys out", rows)


def main():
    global unet15_config, unetxl_config
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    diffusers.utils.logging.set_verbosity_error()
    unet15, unetxl = (on_meta(lambda: UNet2DConditionModel(**config)) for config in (SD15, SDXL))
    unet15_config, unetxl_config = unet15.config, unetxl.config
    unet15, unetxl = modules_of(unet15), modules_of(unetxl)
    flux = modules_of(on_meta(lambda: FluxTransformer2DModel(guidance_embeds=True)), None)
    wans = {name: modules_of(on_meta(lambda: WanTransformer3DModel(**config)), None) for name, config in WAN_MODELS.items()}
    clip_l, clip_g = clip_linears(CLIP_L), clip_linears(CLIP_G)

    write_model("sd15_unet", unet15, lambda p: None, "-")
    write_model("sdxl_unet", unetxl, sgm_name, "name in the sgm layout")
    write_model("clip_l", clip_l, lambda p: None, "-")
    write_model("clip_g", clip_g, lambda p: None, "-")
    write_model("flux", flux, lambda p: None, "-")
    bfl = bfl_modules(flux)
    write(
        MODELS / "flux_bfl.tsv",
        "module\tshape\tthe diffusers modules whose rows it holds, in order",
        [[p, shown(shape), " + ".join(parts)] for p, (shape, parts) in bfl.items()],
    )
    for name, modules in wans.items():
        write_model(name, modules, wan_original, "name in the original checkpoint")

    stable_diffusion(unet15, unetxl, clip_l, clip_g)
    flux_sets(flux, bfl, clip_l)
    wan_sets(wans)
    values()


if __name__ == "__main__":
    main()
