# SPDX-License-Identifier: Apache-2.0
"""Compares kinds/keys and kinds/models with what the original tools make of the same models: names and shapes must be equal.

Run     python check_key_sets.py SD_SCRIPTS DIFFSYNTH        (by hand; neither is on PyPI)

SD_SCRIPTS is a checkout of kohya-ss/sd-scripts at 48d368fa, DIFFSYNTH one of modelscope/DiffSynth-Studio at fed7b18f. Their classes
run on the meta device; what they import for other purposes (cv2, torchvision, attention libraries) is left out. kohya's text
encoders are not compared: it expects transformers 4, whose CLIP has other module paths.
"""

import importlib.machinery
import logging
import pathlib
import re
import sys
import types

import diffusers  # noqa: F401  before the stand-ins, it looks at what is installed
import torch
from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler  # noqa: F401
from transformers import CLIPTextModel  # noqa: F401

KINDS = pathlib.Path(__file__).resolve().parent / "kinds"


def rows(name):
    return [line.split("\t") for line in (KINDS / name).read_text().splitlines()[1:]]


def shown(tensor):
    return "x".join(map(str, tensor.shape)) or "scalar"


def compare(what, ours, theirs):
    apart = {k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k)}
    print(f"{'equal' if not apart else 'APART'} {what}: {len(ours)} here, {len(theirs)} there", *sorted(apart)[:4])
    return not apart


def keys_of(network):
    for lora in network.unet_loras:
        network.add_module(lora.lora_name, lora)
    return {k: shown(v) for k, v in network.state_dict().items() if ".org_module." not in k}  # it is dropped when applied


def kohya(checkout):
    for name in ("cv2", "torchvision", "torchvision.transforms"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
    sys.path.insert(0, checkout)
    from library import flux_models
    from library.original_unet import UNet2DConditionModel
    from library.sdxl_original_unet import SdxlUNet2DConditionModel
    from networks import lora, lora_flux

    ours = {
        name: {r[0]: r[2] for r in rows(f"keys/kohya_{name}.tsv") if r[0].startswith("lora_unet_")}
        for name in ("sd15", "sdxl", "flux")
    }
    with torch.device("meta"):
        unet15 = UNet2DConditionModel(
            sample_size=64, attention_head_dim=8, cross_attention_dim=768, use_linear_projection=False, upcast_attention=False
        )
        flux = flux_models.Flux(flux_models.configs["dev"].params)
        nets = {
            "sd15": lora.LoRANetwork([], unet15, 1.0, 16, 8, conv_lora_dim=16, conv_alpha=8),
            "sdxl": lora.LoRANetwork([], SdxlUNet2DConditionModel(), 1.0, 16, 8, conv_lora_dim=16, conv_alpha=8, is_sdxl=True),
            "flux": lora_flux.LoRANetwork([], flux, 1.0, 16, 8),
        }
    good = [compare(f"keys/kohya_{name}.tsv", ours[name], keys_of(net)) for name, net in nets.items()]
    linears = {p: shown(m.weight) for p, m in flux.named_modules() if isinstance(m, torch.nn.Linear)}
    return good + [compare("models/flux_bfl.tsv", {r[0]: r[1] for r in rows("models/flux_bfl.tsv")}, linears)]


def wan(checkout):
    source = (pathlib.Path(checkout) / "diffsynth/models/wan_video_dit.py").read_text()
    names = dict.fromkeys(
        ("SimpleAdapter", "gradient_checkpoint_forward", "WanToDanceRotaryEmbedding", "WanToDanceMusicEncoderLayer")
    )
    names["__name__"] = "wan_video_dit"
    exec(compile(re.sub(r"^from \..*$", "", source, flags=re.M), "wan_video_dit.py", "exec"), names)
    good = []
    for name, image in (("wan21_t2v_14b", False), ("wan21_i2v_14b", True)):
        with torch.device("meta"):
            model = names["WanModel"](
                dim=5120,
                in_dim=36 if image else 16,
                ffn_dim=13824,
                out_dim=16,
                text_dim=4096,
                freq_dim=256,
                eps=1e-6,
                patch_size=(1, 2, 2),
                num_heads=40,
                num_layers=40,
                has_image_input=image,
            )
        theirs = {p: shown(m.weight) for p, m in model.named_modules() if isinstance(getattr(m, "weight", None), torch.Tensor)}
        good.append(compare(f"models/{name}.tsv, original names", {r[2]: r[1] for r in rows(f"models/{name}.tsv")}, theirs))
    return good


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    logging.disable(logging.WARNING)
    raise SystemExit(0 if all(kohya(sys.argv[1]) + wan(sys.argv[2])) else 1)


if __name__ == "__main__":
    main()
