# SPDX-License-Identifier: Apache-2.0
"""Small random models of diffusers' classes, what they compute on the way, and what they compute with a LoRA.

Makes   models/MODEL/model.safetensors                 weights f32, diffusers' names
        models/MODEL/io.safetensors                    inputs and outputs: computed in float64 from those weights, rounded to f32
        models/MODEL/bf16.safetensors                  outputs from the weights rounded to bf16: output and adapted.output in
                                                       float64, bfloat16.output wholly in bfloat16
        models/MODEL/pytorch_lora_weights.safetensors  a LoRA of rank 4 and alpha 6 as save_lora_adapter writes it (the keys have no
                                                       prefix, the alpha is only in the header, under lora_adapter_metadata)
        models/timesteps.safetensors                   t f32 [T], embedding.W f32 [T, W]: the sine embedding that all of them use
Run     python -m pip install -r requirements.txt && python make_diffusion_goldens.py        (one thread, a minute)
        python make_diffusion_goldens.py bf16        bf16.safetensors only, from the weights and adapters that are there

MODEL is unet_sdxl, flux, wan_t2v, wan_i2v, sd3 (as SD 3.0: no norm of q and k) and sd35 (with it, and two attentions in block 0);
the configurations are below. Keys of io: the arguments of the model's forward by diffusers' names, then
  output                          what the model gives
  wire.PATH, wire.PATH.0, .1      what the module at PATH gives, .0 and .1 where it gives several, in nested ones .1.0: the time
                                  embedding, the angles, each block; in the UNet also each resnet and attention. Nothing for None
  adapted.output, merged.output   with the LoRA aside, and fused into the weights by diffusers
The script fails if torch's own float32 is further than 1e-5 from these numbers, relative to the largest of a tensor. For that the
times are small: at 1000 float32's angles t * 10000^(-i/n) are off by 5e-5. timesteps.safetensors, exact as well, has such times.
"""

import json
import re
import shutil
import sys
import tempfile
import warnings

import diffusers
import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel, WanTransformer3DModel
from diffusers.models.embeddings import get_timestep_embedding
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as save_bytes

from kinds_nets import drawn
from model_nets import MODELS, Exact, relative, rounded, save, weight, write_bf16

UNET_SDXL = dict(
    sample_size=8,
    in_channels=4,
    out_channels=4,
    block_out_channels=(4, 8, 12),
    layers_per_block=2,
    norm_num_groups=2,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    transformer_layers_per_block=[1, 1, 2],
    attention_head_dim=[1, 2, 3],  # heads, not a width, whatever its name
    cross_attention_dim=20,
    use_linear_projection=True,
    addition_embed_type="text_time",
    addition_time_embed_dim=8,
    projection_class_embeddings_input_dim=6 * 8 + 18,
)
FLUX = dict(
    in_channels=16,
    num_layers=2,
    num_single_layers=2,
    attention_head_dim=10,
    num_attention_heads=2,
    joint_attention_dim=20,
    pooled_projection_dim=18,
    guidance_embeds=True,
    axes_dims_rope=(2, 4, 4),
)
WAN_T2V = dict(
    patch_size=(1, 2, 2),
    num_attention_heads=2,
    attention_head_dim=14,
    in_channels=4,
    out_channels=4,
    text_dim=12,
    freq_dim=64,
    ffn_dim=56,
    num_layers=2,
    cross_attn_norm=True,
    qk_norm="rms_norm_across_heads",
)
WAN_I2V = dict(WAN_T2V, in_channels=12, image_dim=10, added_kv_proj_dim=28)
SD3 = dict(
    sample_size=8,
    patch_size=2,
    in_channels=4,
    out_channels=4,
    num_layers=3,
    attention_head_dim=8,
    num_attention_heads=2,
    joint_attention_dim=12,
    caption_projection_dim=16,
    pooled_projection_dim=10,
    pos_embed_max_size=6,
)
SD35 = dict(SD3, qk_norm="rms_norm", dual_attention_layers=(0,))
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
JOINT = ATTENTION + ["add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "net.0.proj", "net.2"]
DIFFUSION = {  # the class, its configuration, the modules that the LoRA changes, the wires that are kept
    "unet_sdxl": (
        UNet2DConditionModel,
        UNET_SDXL,
        ATTENTION + ["net.0.proj", "net.2", "conv1", "proj_in"],
        r"(time|add)_embedding|conv_in|mid_block|(.*\.)?(down_blocks|up_blocks|resnets|attentions|transformer_blocks)\.\d+",
    ),
    "flux": (
        FluxTransformer2DModel,
        FLUX,
        JOINT + ["proj_mlp", "proj_out"],
        r"time_text_embed|pos_embed|(single_)?transformer_blocks\.\d+|norm_out",
    ),
    "wan_t2v": (
        WanTransformer3DModel,
        WAN_T2V,
        ATTENTION + ["net.0.proj", "net.2"],
        r"condition_embedder|rope|patch_embedding|blocks\.\d+|norm_out",
    ),
    "wan_i2v": (
        WanTransformer3DModel,
        WAN_I2V,
        ATTENTION + ["add_k_proj", "add_v_proj", "net.0.proj", "net.2"],
        r"condition_embedder\.(image_embedder|time_embedder|time_proj)|patch_embedding|blocks\.\d+|norm_out",
    ),
    "sd3": (SD3Transformer2DModel, SD3, JOINT, r"time_text_embed|pos_embed|transformer_blocks\.\d+|norm_out"),
    "sd35": (SD3Transformer2DModel, SD35, JOINT, r"time_text_embed|pos_embed|transformer_blocks\.\d+|norm_out"),
}
LORA = "pytorch_lora_weights.safetensors"


def inputs(name):
    def x(key, *shape):
        return drawn(f"x/{name}/{key}", shape)

    times = torch.tensor([37.0, 5.0])
    if name == "unet_sdxl":
        sizes = torch.tensor([[16.0, 24, 0, 0, 16, 24], [20, 24, 4, 0, 16, 24]])
        return {
            "sample": x("sample", 2, 4, 8, 12),
            "timestep": times,
            "encoder_hidden_states": x("text", 2, 7, 20),
            "text_embeds": x("pooled", 2, 18),
            "time_ids": sizes,
        }
    if name == "flux":
        rows, columns = torch.meshgrid(torch.arange(3.0), torch.arange(4.0), indexing="ij")
        return {
            "hidden_states": x("image", 2, 12, 16),
            "encoder_hidden_states": x("text", 2, 5, 20),
            "pooled_projections": x("pooled", 2, 18),
            "timestep": torch.tensor([0.037, 0.005]),  # the model multiplies both by 1000
            "guidance": torch.tensor([0.0035, 0.02]),
            "img_ids": torch.stack([torch.zeros(3, 4), rows, columns], dim=-1).reshape(12, 3),
            "txt_ids": torch.zeros(5, 3),
        }
    if name == "wan_t2v":
        return {"hidden_states": x("video", 2, 4, 3, 4, 6), "timestep": times, "encoder_hidden_states": x("text", 2, 9, 12)}
    if name == "wan_i2v":
        return {
            "hidden_states": x("video", 1, 12, 3, 4, 6),
            "timestep": times[:1],
            "encoder_hidden_states": x("text", 1, 512, 12),  # 512 tokens are written into the model's code
            "encoder_hidden_states_image": x("picture", 1, 5, 10),
        }
    return {
        "hidden_states": x("image", 2, 4, 6, 8),
        "encoder_hidden_states": x("text", 2, 5, 12),
        "pooled_projections": x("pooled", 2, 10),
        "timestep": times,
    }


def write_weights(name):
    kind, config, _, _ = DIFFUSION[name]
    model = kind(**config)
    buffers = dict(model.named_buffers())
    state = {
        key: tensor if key in buffers else weight(name + "/", key, tensor.shape) for key, tensor in model.state_dict().items()
    }
    save(MODELS / name / "model.safetensors", state)


def base_model(name, dtype=torch.float32):
    """From the file, each weight rounded to `dtype`."""
    kind, config, _, _ = DIFFUSION[name]
    model = kind(**config)
    model.load_state_dict(rounded(load_file(MODELS / name / "model.safetensors"), dtype), strict=True)
    return model.eval()


def write_adapter(name):
    """What diffusers saves, its targets and the entries of its header sorted: they come in another order each run."""
    model = base_model(name)
    model.add_adapter(LoraConfig(r=4, lora_alpha=6, target_modules=DIFFUSION[name][2], init_lora_weights=False))
    for key, parameter in model.named_parameters():
        if "lora_" in key:
            parameter.copy_((0.3 if "lora_A" in key else 0.1) * drawn(f"{name}/{key}", parameter.shape))
    with tempfile.TemporaryDirectory() as folder:
        model.save_lora_adapter(folder)
        with safe_open(f"{folder}/{LORA}", "pt") as file:
            header = file.metadata()
        state = load_file(f"{folder}/{LORA}")
    config = json.loads(header["lora_adapter_metadata"])
    config["target_modules"] = sorted(config["target_modules"])
    header["lora_adapter_metadata"] = json.dumps(config, indent=2, sort_keys=True)
    file = save_bytes(state, metadata=header)
    size = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    (MODELS / name / LORA).write_bytes(len(text).to_bytes(8, "little") + text + file[8 + size :])


def adapted_model(name, merge, dtype=torch.float32):
    model = base_model(name, dtype)
    model.load_lora_adapter(str(MODELS / name), weight_name=LORA, prefix=None)
    if torch.get_default_dtype() == torch.float64:
        torch.nn.Module.double(model)
    if merge:
        model.fuse_lora()
    return model.eval()


def tensors(prefix, value):
    """(key, tensor) of what a module gave, however nested."""
    if isinstance(value, torch.Tensor):
        yield prefix, value
    elif value is not None:
        for i, part in enumerate(value.to_tuple() if hasattr(value, "to_tuple") else value):
            yield from tensors(f"{prefix}.{i}", part)


def outputs(name, model, x, dtype=None):
    """What the model gives, by its key in io. `dtype` is that of the inputs: torch's default if none."""
    x = {key: value.to(dtype or torch.get_default_dtype()) for key, value in x.items()}
    if name == "unet_sdxl":
        x["added_cond_kwargs"] = {key: x.pop(key) for key in ("text_embeds", "time_ids")}
    wires = {}

    def keep(path):
        def hook(module, arguments, output):
            wires.update((key, value.clone()) for key, value in tensors("wire." + path, output))

        return hook

    for path, module in model.named_modules():
        if re.fullmatch(DIFFUSION[name][3], path) and not (path == "rope" and name == "wan_i2v"):
            module.register_forward_hook(keep(path))
    return {"output": model(**x).sample, **wires}


def both(name, make, x):
    """(outputs in float64, the largest relative distance of float32 from them)"""
    single = outputs(name, make(), x)
    with Exact():
        exact = outputs(name, make(), x)
    assert all(value.dtype == torch.float64 for value in exact.values())
    gaps = {key: relative(single[key], value) for key, value in exact.items()}
    assert max(gaps.values()) < 1e-5, gaps
    return exact, max(gaps.values())


def write_timesteps():
    t = torch.tensor([0, 1, 5.5, 37, 250, 500.25, 999, 1000])
    keep = {"t": t}
    for width in (256, 320):
        with Exact():
            keep[f"embedding.{width}"] = get_timestep_embedding(t.double(), width, flip_sin_to_cos=True, downscale_freq_shift=0)
        single = get_timestep_embedding(t, width, flip_sin_to_cos=True, downscale_freq_shift=0)
        gaps = (single - keep[f"embedding.{width}"]).abs().amax(1)
        print(f"timesteps, {width}: float32 is off by " + ", ".join(f"{gap:.0e} at {at:g}" for at, gap in zip(t, gaps)))
    save(MODELS / "timesteps.safetensors", keep)


def with_bf16_weights(name):
    x = inputs(name)
    write_bf16(
        name,
        ["output"],
        lambda: base_model(name, torch.bfloat16),
        lambda model, dtype: outputs(name, model, x, dtype),
        lambda: adapted_model(name, False, torch.bfloat16),
    )


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    diffusers.logging.set_verbosity_error()
    if sys.argv[1:] == ["bf16"]:
        for name in DIFFUSION:
            with_bf16_weights(name)
        return
    write_timesteps()
    for name in DIFFUSION:
        shutil.rmtree(MODELS / name, ignore_errors=True)
        write_weights(name)
        x = inputs(name)
        y, gap = both(name, lambda: base_model(name), x)
        keep = {**x, **y}
        largest = max(value.abs().max() for value in y.values())
        print(f"{name:10} f32 against f64 {gap:.1e}, largest {largest:.1f}, {len(y) - 1} wires")
        write_adapter(name)
        for merge, prefix in ((False, "adapted."), (True, "merged.")):
            z, gap = both(name, lambda: adapted_model(name, merge), x)
            keep[prefix + "output"] = z["output"]
            print(f"    {prefix:8} f32 against f64 {gap:.1e}, {relative(z['output'], y['output']):.2f} from the base")
        assert relative(keep["adapted.output"], keep["merged.output"]) < 1e-12
        save(MODELS / name / "io.safetensors", keep)
        with_bf16_weights(name)
        print("    bytes: " + ", ".join(f"{p.name} {p.stat().st_size:,}" for p in sorted((MODELS / name).iterdir())))


if __name__ == "__main__":
    main()
