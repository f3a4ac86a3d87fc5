# SPDX-License-Identifier: Apache-2.0
"""Adapters of every kind that PEFT has, as PEFT saves them, and what PEFT computes with them.

Makes   kinds/base.safetensors, base_gpt2.safetensors, inputs.safetensors   the nets of kinds_nets.py and their inputs
        kinds/peft/CASE/               adapter_model.safetensors and adapter_config.json, random and non-zero everywhere
        kinds/peft_weights.safetensors CASE@STRENGTH/<weight name>: the weights that merging changes, only those
        kinds/peft_outputs.safetensors CASE@STRENGTH/<module path>: what the adapted layers give on inputs.safetensors, not merged
        kinds/manifest.tsv             the rows of these cases
Run     python -m pip install -r requirements.txt && python make_peft_kinds.py        (one thread, a minute)

The adapter is saved in f32 (f16, bf16 where the case says so), read back from its file, and all goldens are computed in float64
and stored rounded to f32. STRENGTH multiplies the scale that PEFT computes. PEFT's butterflies with more than one factor need its CUDA extension, which does
nothing but set blocks on a diagonal; kinds_nets.py has the same for a CPU.
"""

import copy
import json
import pathlib
import shutil
import tempfile
import warnings

import torch
from diffusers.loaders.lora_base import LoraBaseMixin
from peft import (
    BOFTConfig,
    GloraConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PeftModel,
    VeraConfig,
    get_peft_model,
    get_peft_model_state_dict,
)
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file

import kinds_nets
from kinds_nets import KINDS, NETS, drawn, float64_arithmetic

HERE = KINDS / "peft"
ATTN = ["attn.q", "attn.k", "attn.o"]


class Case:
    def __init__(
        self,
        config,
        kind,
        strengths=(1,),
        dtype=torch.float32,
        base="base.safetensors",
        names=("default",),
        notes="",
        layout="folder",
        merge="peft",
        reload=True,
    ):
        """`merge`: "peft" merges, "delta" adds PEFT's own delta once to each weight, None where there is no merged weight.
        `reload` False: PEFT cannot read the file back as it was, so the model that was saved is used with the file's tensors."""
        self.config, self.kind, self.strengths, self.dtype, self.base = config, kind, strengths, dtype, base
        self.names, self.notes, self.layout, self.merge, self.reload = names, notes, layout, merge, reload


def lora(targets, r=4, alpha=6, **more):
    return LoraConfig(target_modules=targets, r=r, lora_alpha=alpha, init_lora_weights=True, **more)


def glora(a_b, c, d_e, targets=ATTN, r=3, **more):
    """A and B, C, D and E: "lora", "vector", "constant" or "none" each. "attn.q" has no bias: PEFT then stores zeros for C, D, E."""
    return GloraConfig(target_modules=targets, r=r, config_A_B=a_b, config_C=c, config_D_E=d_e, **more)


def cases():
    """Case name -> Case. Names begin with the kind; what follows says how the case differs from its plain one."""
    half = (1, 0.5)
    return {
        # LoRA on linears: ranks, scales, patterns, biases
        "lora-plain": Case(lora(ATTN), "lora", (1, 0.5, -2)),
        "lora-rank1": Case(lora(ATTN, r=1, alpha=3), "lora", half),
        "lora-alpha-equals-rank": Case(lora(["attn.q"], r=3, alpha=3), "lora"),
        "lora-rank-above-width": Case(lora(["attn.q"], r=14, alpha=7), "lora", notes="rank 14 > in 12"),
        "lora-rslora": Case(lora(ATTN, r=5, alpha=3, use_rslora=True), "lora", half, notes="scale alpha / sqrt(rank)"),
        "lora-rank-pattern": Case(lora(ATTN + ["mlp.up"], r=2, alpha=4, rank_pattern={"k": 3, "mlp.*": 5}), "lora"),
        "lora-alpha-pattern": Case(lora(ATTN, r=2, alpha=4, alpha_pattern={"^attn.q": 7, "o": 1}), "lora", half),
        "lora-both-patterns": Case(
            lora(
                ATTN + ["mlp.up", "mlp.down"],
                r=2,
                alpha=4,
                rank_pattern={r"attn\.[qk]": 6, "down": 1},
                alpha_pattern={"q": 3, "up": 5},
            ),
            "lora",
        ),
        "lora-pattern-first-match": Case(
            lora(ATTN, r=2, alpha=4, rank_pattern={r"attn\.q": 3, "q": 5}, alpha_pattern={"k": 9, "attn.k": 1}),
            "lora",
            notes="PEFT sorts the patterns' keys when it saves: the order that counts is the file's",
        ),
        "lora-rslora-patterns": Case(
            lora(ATTN, r=4, alpha=2, use_rslora=True, rank_pattern={"o": 9}, alpha_pattern={"q": 5}), "lora"
        ),
        "lora-regex-targets": Case(lora(r".*\.(q|down)", r=2, alpha=5), "lora", notes="target_modules is one regular expression"),
        "lora-all-linear-layers": Case(lora(["q", "k", "o", "up", "down"], r=2, alpha=3, exclude_modules=["k"]), "lora"),
        "lora-b-bias": Case(lora(["attn.k", "attn.o"], lora_bias=True), "lora", half, notes="lora_B.bias, scaled as B is"),
        "lora-bias-all": Case(
            lora(["attn.q", "attn.k"], bias="all"),
            "lora",
            half,
            notes="every bias of the model is replaced, whatever the strength; targets' keys say base_layer.bias",
        ),
        "lora-bias-lora-only": Case(
            lora(["attn.q", "attn.k"], bias="lora_only"),
            "lora",
            notes="biases of the targets are replaced; their keys say base_layer.bias",
        ),
        "lora-f16": Case(lora(ATTN), "lora", dtype=torch.float16),
        "lora-bf16": Case(lora(ATTN), "lora", dtype=torch.bfloat16),
        # LoRA on other layers
        "lora-conv1x1": Case(lora(["conv.one"]), "lora", half),
        "lora-conv3x3": Case(lora(["conv.three"]), "lora", half, notes="stride 2"),
        "lora-conv1d": Case(lora(["conv.line"]), "lora", half),
        "lora-conv3d": Case(lora(["conv.box"]), "lora", half),
        "lora-conv-b-bias": Case(lora(["conv.three", "conv.one"], lora_bias=True), "lora"),
        "lora-conv-rslora-f16": Case(
            lora(["conv.three", "conv.one"], r=4, alpha=3, use_rslora=True), "lora", dtype=torch.float16
        ),
        "lora-conv-grouped": Case(
            lora(["conv.grouped"], r=4),
            "lora",
            half,
            merge=None,
            notes="A sees all inputs, B is grouped: no weight of the base's shape exists, PEFT does not merge it",
        ),
        "lora-embedding": Case(lora(["embed"]), "lora", half, notes="lora_embedding_A [r, rows], lora_embedding_B [width, r]"),
        "lora-embedding-rank1-bf16": Case(lora(["embed"], r=1), "lora", dtype=torch.bfloat16),
        "lora-gpt2-linear": Case(lora(["gpt.fc"], fan_in_fan_out=True), "lora", half, notes="base weight is [in, out]"),
        "lora-gpt2-rslora-b-bias": Case(lora(["gpt.fc"], fan_in_fan_out=True, use_rslora=True, lora_bias=True), "lora"),
        "lora-saved-modules": Case(
            lora(["attn.q"], modules_to_save=["attn.k", "norm"]),
            "lora",
            half,
            notes="whole in the file, replaced whatever the strength; \"norm\" picks group_norm too: any ending counts",
        ),
        "lora-saved-embedding-and-conv": Case(lora(["attn.q"], modules_to_save=["embed", "conv.one"]), "lora"),
        "lora-mixed-layers": Case(lora(["attn.q", "conv.three", "conv.line", "embed", "mlp.down"], r=3, alpha=2), "lora", half),
        "lora-trainable-tokens": Case(
            lora(["attn.q"], trainable_token_indices={"embed": [0, 7, 11]}),
            "lora",
            notes="three rows of the embedding are replaced",
        ),
        # DoRA
        "dora-linear": Case(lora(ATTN, use_dora=True), "dora", (1, 0.5, -1), notes="strength enters the scale inside the norm"),
        "dora-rank1": Case(lora(["attn.o"], r=1, use_dora=True), "dora"),
        "dora-rslora": Case(lora(ATTN, r=5, alpha=3, use_dora=True, use_rslora=True), "dora", half),
        "dora-patterns": Case(lora(ATTN, r=2, alpha=3, use_dora=True, rank_pattern={"q": 4}, alpha_pattern={"k": 5}), "dora"),
        "dora-conv1x1": Case(lora(["conv.one"], use_dora=True), "dora", half, notes="magnitude [1, out, 1, 1]"),
        "dora-conv3x3": Case(lora(["conv.three"], use_dora=True), "dora", half),
        "dora-conv1d": Case(lora(["conv.line"], use_dora=True), "dora"),
        "dora-conv3d": Case(lora(["conv.box"], use_dora=True), "dora"),
        "dora-embedding": Case(lora(["embed"], use_dora=True), "dora", half, notes="magnitude [width]: the norm of a column"),
        "dora-gpt2-linear": Case(lora(["gpt.fc"], use_dora=True, fan_in_fan_out=True), "dora", half),
        "dora-f16": Case(lora(ATTN, use_dora=True), "dora", dtype=torch.float16),
        "dora-bf16": Case(lora(["attn.q", "conv.three"], use_dora=True), "dora", dtype=torch.bfloat16),
        "dora-bias-lora-only": Case(lora(["attn.k", "conv.three"], use_dora=True, bias="lora_only"), "dora"),
        # LoHa and LoKr
        "loha-linear": Case(LoHaConfig(r=3, alpha=2, target_modules=ATTN), "loha", half),
        "loha-rank1": Case(LoHaConfig(r=1, alpha=1, target_modules=["attn.q"]), "loha"),
        "loha-patterns": Case(
            LoHaConfig(r=3, alpha=2, target_modules=ATTN, rank_pattern={"q": 2}, alpha_pattern={"o": 5}), "loha"
        ),
        "loha-conv": Case(LoHaConfig(r=3, alpha=2, target_modules=["conv.one", "conv.three", "conv.line"]), "loha", half),
        "loha-conv-effective": Case(
            LoHaConfig(r=3, alpha=2, target_modules=["conv.one", "conv.three", "conv.line"], use_effective_conv2d=True),
            "loha",
            half,
            notes="Tucker: hada_t1, hada_t2; Conv1d stores them [r, r, k, 1]",
        ),
        "loha-conv-grouped": Case(LoHaConfig(r=2, alpha=2, target_modules=["conv.grouped"]), "loha"),
        "loha-f16": Case(LoHaConfig(r=3, alpha=2, target_modules=["attn.q", "conv.three"]), "loha", dtype=torch.float16),
        "loha-bf16": Case(LoHaConfig(r=3, alpha=2, target_modules=["attn.q", "conv.three"]), "loha", dtype=torch.bfloat16),
        "lokr-linear": Case(LoKrConfig(r=1, alpha=2, target_modules=ATTN), "lokr", half, notes="w1 full, w2 factored"),
        "lokr-decompose-both": Case(
            LoKrConfig(r=1, alpha=3, decompose_both=True, target_modules=["attn.q", "mlp.up"]), "lokr", half
        ),
        "lokr-factor": Case(LoKrConfig(r=2, alpha=3, decompose_factor=2, target_modules=ATTN + ["mlp.up"]), "lokr"),
        "lokr-factor-above-root": Case(
            LoKrConfig(r=1, alpha=3, decompose_factor=8, target_modules=["attn.o", "mlp.up"]),
            "lokr",
            notes="the larger factor comes first",
        ),
        "lokr-full": Case(
            LoKrConfig(r=8, alpha=3, target_modules=ATTN),
            "lokr",
            half,
            notes="w1 and w2 full: PEFT still scales by alpha/rank of the config, LyCORIS does not",
        ),
        "lokr-conv": Case(LoKrConfig(r=1, alpha=2, target_modules=["conv.one", "conv.three", "conv.line"]), "lokr", half),
        "lokr-conv-effective": Case(
            LoKrConfig(r=1, alpha=2, decompose_factor=2, use_effective_conv2d=True, target_modules=["conv.one", "conv.three"]),
            "lokr",
            half,
            notes="Tucker: lokr_t2; PEFT itself fails on such a Conv1d",
        ),
        "lokr-conv-full": Case(LoKrConfig(r=6, alpha=2, target_modules=["conv.one", "conv.three"]), "lokr"),
        "lokr-conv1d-full": Case(
            LoKrConfig(r=6, alpha=2, target_modules=["conv.line"]),
            "lokr",
            notes="PEFT multiplies [1, a, b] with w2 [c, d, k] and reshapes: not w1 [a, b, 1], as LyCORIS has it",
        ),
        "lokr-conv-grouped": Case(LoKrConfig(r=1, alpha=2, target_modules=["conv.grouped"]), "lokr"),
        "lokr-f16": Case(LoKrConfig(r=1, alpha=2, target_modules=["attn.q", "conv.three"]), "lokr", dtype=torch.float16),
        "lokr-bf16": Case(LoKrConfig(r=1, alpha=2, target_modules=["attn.q", "conv.three"]), "lokr", dtype=torch.bfloat16),
        # (IA)^3
        "ia3-linear": Case(
            IA3Config(target_modules=ATTN, feedforward_modules=[]), "ia3", notes="scales rows, and the bias with them"
        ),
        "ia3-feedforward": Case(
            IA3Config(target_modules=["attn.q", "attn.o", "mlp.down"], feedforward_modules=["attn.o", "mlp.down"]),
            "ia3",
            notes="feedforward modules scale columns and leave the bias",
        ),
        "ia3-conv": Case(
            IA3Config(target_modules=["conv.one", "conv.three", "conv.box"], feedforward_modules=["conv.one"]), "ia3"
        ),
        "ia3-conv-grouped": Case(
            IA3Config(target_modules=["conv.grouped"], feedforward_modules=["conv.grouped"]),
            "ia3",
            notes="the input's scale is spread over the groups",
        ),
        "ia3-gpt2-linear": Case(IA3Config(target_modules=["gpt.fc"], feedforward_modules=[], fan_in_fan_out=True), "ia3"),
        "ia3-gpt2-feedforward": Case(
            IA3Config(target_modules=["gpt.fc"], feedforward_modules=["gpt.fc"], fan_in_fan_out=True), "ia3"
        ),
        "ia3-f16": Case(
            IA3Config(target_modules=["attn.q", "mlp.down"], feedforward_modules=["mlp.down"]), "ia3", dtype=torch.float16
        ),
        # OFT and BOFT
        "oft-block4": Case(
            OFTConfig(oft_block_size=4, target_modules=ATTN), "oft", notes="Cayley by a Neumann series of 5 terms, PEFT's default"
        ),
        "oft-block4-solve": Case(OFTConfig(oft_block_size=4, use_cayley_neumann=False, target_modules=ATTN), "oft"),
        "oft-neumann3": Case(
            OFTConfig(oft_block_size=4, num_cayley_neumann_terms=3, target_modules=["attn.q"]),
            "oft",
            notes="3 terms are computed as 4: I + 2Q + 2Q^2 + Q^3",
        ),
        "oft-neumann6": Case(OFTConfig(oft_block_size=4, num_cayley_neumann_terms=6, target_modules=["attn.q"]), "oft"),
        "oft-r2": Case(OFTConfig(r=2, oft_block_size=0, target_modules=ATTN), "oft", notes="r is the number of blocks"),
        "oft-one-block": Case(OFTConfig(r=1, oft_block_size=0, use_cayley_neumann=False, target_modules=["attn.q"]), "oft"),
        "oft-block-adjusted": Case(
            OFTConfig(oft_block_size=5, use_cayley_neumann=False, target_modules=["attn.q", "attn.o"]),
            "oft",
            notes="block size 5 divides neither width: PEFT takes the nearest that does, the file's shape says which",
        ),
        "oft-block-share": Case(
            OFTConfig(oft_block_size=4, block_share=True, use_cayley_neumann=False, target_modules=ATTN), "oft"
        ),
        "oft-coft": Case(
            OFTConfig(oft_block_size=4, coft=True, eps=0.05, use_cayley_neumann=False, target_modules=ATTN),
            "oft",
            notes="the stored blocks lie outside eps: PEFT projects them when they are used",
        ),
        "oft-coft-share": Case(
            OFTConfig(r=3, oft_block_size=0, coft=True, eps=0.3, block_share=True, target_modules=["attn.q"]), "oft"
        ),
        "oft-conv1x1": Case(OFTConfig(oft_block_size=4, use_cayley_neumann=False, target_modules=["conv.one"]), "oft"),
        "oft-conv3x3": Case(
            OFTConfig(oft_block_size=4, use_cayley_neumann=False, target_modules=["conv.three"]),
            "oft",
            notes="PEFT's forward adds overlapping patches up and is wrong even for R = I; its merge is right",
        ),
        "oft-embedding": Case(OFTConfig(oft_block_size=4, use_cayley_neumann=False, target_modules=["embed"]), "oft"),
        "oft-bias-oft-only": Case(OFTConfig(oft_block_size=4, bias="oft_only", target_modules=["attn.k"]), "oft"),
        "oft-f16": Case(OFTConfig(oft_block_size=4, target_modules=["attn.q"]), "oft", dtype=torch.float16),
        "oft-bf16": Case(
            OFTConfig(oft_block_size=4, use_cayley_neumann=False, target_modules=["attn.q"]), "oft", dtype=torch.bfloat16
        ),
        "boft-block4": Case(BOFTConfig(boft_block_size=4, boft_n_butterfly_factor=1, target_modules=ATTN), "boft"),
        "boft-blocknum2": Case(BOFTConfig(boft_block_size=0, boft_block_num=2, target_modules=ATTN), "boft"),
        "boft-butterfly2": Case(
            BOFTConfig(boft_block_size=2, boft_n_butterfly_factor=2, target_modules=ATTN),
            "boft",
            notes="two stages: PEFT without its CUDA extension silently makes one",
        ),
        "boft-butterfly3": Case(
            BOFTConfig(boft_block_size=2, boft_n_butterfly_factor=3, target_modules=["attn.o", "mlp.down"]), "boft"
        ),
        "boft-butterfly2-block4": Case(
            BOFTConfig(boft_block_size=4, boft_n_butterfly_factor=2, target_modules=["attn.o", "mlp.down"]), "boft"
        ),
        "boft-conv": Case(BOFTConfig(boft_block_size=4, target_modules=["conv.one", "conv.three"]), "boft"),
        "boft-conv-butterfly2": Case(
            BOFTConfig(boft_block_size=4, boft_n_butterfly_factor=2, target_modules=["conv.one", "conv.three"]), "boft"
        ),
        "boft-bias-boft-only": Case(BOFTConfig(boft_block_size=4, bias="boft_only", target_modules=["attn.k"]), "boft"),
        "boft-f16": Case(BOFTConfig(boft_block_size=4, target_modules=["attn.q"]), "boft", dtype=torch.float16),
        # VeRA
        "vera-linear": Case(
            VeraConfig(r=5, target_modules=ATTN), "vera", notes="vera_A [r, widest in], vera_B [widest out, r], sliced"
        ),
        "vera-d-initial": Case(VeraConfig(r=3, d_initial=0.7, target_modules=["attn.q", "mlp.up"]), "vera"),
        "vera-bias-vera-only": Case(VeraConfig(r=3, bias="vera_only", target_modules=["attn.k"]), "vera"),
        "vera-gpt2-linear": Case(VeraConfig(r=3, target_modules=["gpt.fc"], fan_in_fan_out=True), "vera"),
        "vera-f16": Case(VeraConfig(r=5, target_modules=ATTN), "vera", dtype=torch.float16),
        "vera-no-projection": Case(
            VeraConfig(r=5, save_projection=False, projection_prng_key=7, target_modules=ATTN),
            "vera",
            notes="the file lacks vera_A and vera_B: torch's generator makes them from the seed; refuse it",
        ),
        # GLoRA: W + W * A + B by elements, b + b * D + E + W C; every pair of settings of A and B, of C, of D and E
        "glora-linear": Case(glora("lora", "lora", "constant"), "glora", notes="PEFT's default; A and B [out, r] [r, in], C [in, r] [r, 1]"),
        "glora-lora-vector-vector": Case(glora("lora", "vector", "vector", ["attn.k", "mlp.down"]), "glora"),
        "glora-lora-none-none": Case(glora("lora", "none", "none"), "glora"),
        "glora-vector-lora-none": Case(glora("vector", "lora", "none"), "glora", notes="A and B [out, 1], for all inputs"),
        "glora-vector-vector-constant": Case(glora("vector", "vector", "constant"), "glora"),
        "glora-vector-none-vector": Case(glora("vector", "none", "vector"), "glora"),
        "glora-constant-lora-vector": Case(glora("constant", "lora", "vector"), "glora", notes="A and B one number each"),
        "glora-constant-vector-none": Case(glora("constant", "vector", "none"), "glora"),
        "glora-constant-none-constant": Case(glora("constant", "none", "constant"), "glora"),
        "glora-none-lora-constant": Case(glora("none", "lora", "constant"), "glora", notes="A and B are stored as zeros [out, in]"),
        "glora-none-vector-vector": Case(glora("none", "vector", "vector"), "glora"),
        "glora-rank1": Case(glora("lora", "lora", "vector", ["attn.k", "mlp.up"], r=1), "glora"),
        "glora-rank-above-width": Case(glora("lora", "lora", "constant", ["attn.k"], r=14), "glora", notes="rank 14 > in 12"),
        "glora-bias-glora-only": Case(
            glora("lora", "lora", "vector", ["attn.k"], bias="glora_only"),
            "glora",
            notes="the bias is replaced, and D multiplies the one that took its place",
        ),
        "glora-f16": Case(glora("lora", "lora", "vector"), "glora", dtype=torch.float16),
        "glora-bf16": Case(glora("vector", "vector", "vector"), "glora", dtype=torch.bfloat16),
        # a real tied model
        "gpt2-attention": Case(lora(["c_attn", "c_proj"], fan_in_fan_out=True), "lora", half, base="base_gpt2.safetensors"),
        "gpt2-tied-embedding": Case(
            lora(["wte"]),
            "lora",
            base="base_gpt2.safetensors",
            notes="lm_head shares wte's weight: merging moves both, PEFT's forward adapts the embedding only",
        ),
        "gpt2-tied-both": Case(
            lora(["wte", "lm_head"], ensure_weight_tying=True),
            "lora",
            base="base_gpt2.safetensors",
            merge="delta",
            reload=False,
            notes="one delta on the shared weight: PEFT's merge adds it twice, its reload drops lm_head",
        ),
        "gpt2-saved-tied-embedding": Case(
            lora(["c_attn"], fan_in_fan_out=True, modules_to_save=["wte"], ensure_weight_tying=True),
            "lora",
            base="base_gpt2.safetensors",
            notes="the tie is cut: lm_head keeps the base's embedding, so it is among the weights",
        ),
        "gpt2-saved-norm": Case(
            lora(["c_attn"], fan_in_fan_out=True, modules_to_save=["ln_f"]), "lora", base="base_gpt2.safetensors"
        ),
        "gpt2-dora": Case(
            lora(["c_attn", "c_fc"], fan_in_fan_out=True, use_dora=True), "dora", half, base="base_gpt2.safetensors"
        ),
        # the same numbers under other names
        "names-in-memory": Case(
            lora(["attn.q", "embed", "conv.three"], use_dora=True, modules_to_save=["norm"]),
            "dora",
            names=("my_style",),
            layout="in-memory",
            notes="the keys of PEFT's state dict: lora_A.<name>.weight",
        ),
        "names-two": Case(
            lora(["attn.q", "attn.k"]), "lora", names=("first", "second"), layout="in-memory", notes="two adapters in one file"
        ),
        "names-glora": Case(
            glora("lora", "lora", "vector", ["attn.q", "attn.k"]),
            "glora",
            names=("my_style",),
            layout="in-memory",
            notes="glora_A.<name>.Xd",
        ),
        "header-metadata": Case(
            lora(["attn.q", "attn.k", "conv.three"], r=3, alpha=5, rank_pattern={"k": 2}, use_rslora=True),
            "lora",
            layout="header",
            notes="as diffusers saves: config in the header under lora_adapter_metadata",
        ),
    }


@torch.no_grad()
def fill(model, case_name, adapter):
    """Every trainable tensor of the adapter gets its own seeded numbers, none of them at its neutral value."""
    for key, value in model.named_parameters():
        if not value.requires_grad:
            continue
        noise = drawn(f"{case_name}/{adapter}/{key}", value.shape)
        if any(part in key for part in ("lora_magnitude_vector", "ia3_l", "boft_s")):
            value.mul_(1 + 0.2 * noise)
        elif "oft_R" in key or "oft_embedding_R" in key or "boft_R" in key:
            value.copy_((0.2 if "boft_R" in key else 0.1) * noise)
        elif any(part in key for part in ("lora_", "hada_", "lokr_", "vera_", "glora_", "trainable_tokens")):
            value.copy_((0.6 if "hada_" in key or "vera_" in key else 0.4) * noise)
        else:  # a bias or a saved module: the base's number, moved
            value.add_(0.2 * noise)


def build(case_name, case):
    """A model with the case's adapters in it, filled; f32, but the adapters in the case's dtype."""
    net = NETS[case.base]()
    model = get_peft_model(net, copy.deepcopy(case.config), adapter_name=case.names[0])
    for name in case.names[1:]:
        model.add_adapter(name, copy.deepcopy(case.config))
    for name in case.names:
        model.set_adapter(name)
        fill(model, case_name, name)
    model.set_adapter(case.names[0])
    return model


def save(case_name, case):
    """What PEFT saves, less its model card and what differs between runs: the base's path, the order of a Python set."""
    folder = HERE / case_name
    folder.mkdir(parents=True)
    model = build(case_name, case)
    for key, value in model.named_parameters():
        if value.requires_grad or any(f".{name}" in key for name in case.names):
            value.data = value.data.to(case.dtype)
    for name, value in model.named_buffers():
        if "vera_" in name:
            value.data = value.data.to(case.dtype)
    with tempfile.TemporaryDirectory() as saved:
        model.save_pretrained(saved)
        written = pathlib.Path(saved) if case.names[0] == "default" else pathlib.Path(saved, case.names[0])
        if case.layout == "folder":
            shutil.copyfile(written / "adapter_model.safetensors", folder / "adapter_model.safetensors")
        config = json.loads((written / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = case.base.removesuffix(".safetensors")
    if isinstance(config["target_modules"], list):
        config["target_modules"] = sorted(config["target_modules"])
    if isinstance(config.get("feedforward_modules"), list):
        config["feedforward_modules"] = sorted(config["feedforward_modules"])
    if case.layout == "header":
        state = {"transformer." + k.removeprefix("base_model.model."): v for k, v in get_peft_model_state_dict(model).items()}
        LoraBaseMixin.write_lora_layers(
            state,
            str(folder),
            True,
            "pytorch_lora_weights.safetensors",
            None,
            True,
            {"transformer." + k: v for k, v in config.items()},
        )
        return
    if case.layout == "in-memory":
        kept = {
            k: v.contiguous()
            for k, v in model.state_dict().items()
            if any(f".{name}" in k for name in case.names) and "original_module" not in k
        }
        save_file(kept, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def attached(case_name, case, name, strength):
    """The base with the case's file attached by PEFT at `strength`, in float64. Files in another layout than PEFT's are attached
    from the tensors that were written, through PEFT's state dict."""
    if case.layout == "folder" and case.reload:
        model = PeftModel.from_pretrained(NETS[case.base](), str(HERE / case_name))
    else:
        model = build(case_name, case)
        if case.layout == "in-memory":
            file = load_file(HERE / case_name / "adapter_model.safetensors")
            assert set(file) <= set(model.state_dict())
            model.load_state_dict(file, strict=False)
        model.set_adapter(name)
    model = model.double().eval()
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer) and strength != 1:
            layer.set_scale(name, strength)
    return model


def merged_model(model, case, name):
    if case.merge == "peft":
        return model.merge_and_unload()
    deltas = {
        path: layer.get_delta_weight(name)
        for path, layer in model.base_model.model.named_modules()
        if isinstance(layer, BaseTunerLayer)
    }
    model = model.unload()
    done = set()
    for path, delta in deltas.items():
        weight = model.get_submodule(path).weight
        if weight.data_ptr() not in done:  # a tied weight is reached by two paths
            weight.data += delta
            done.add(weight.data_ptr())
    return model


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


@torch.no_grad()
def goldens(case_name, case, x, weights, keep):
    base = NETS[case.base]().double()
    base_state = base.state_dict()
    x = {"gpt2": x["gpt2"]} if "gpt2" in case.base else {k: v for k, v in x.items() if k != "gpt2"}
    base_y = kinds_nets.outputs(base, x)
    rows = []
    for name in case.names:
        for strength in case.strengths:
            label = case_name + (f":{name}" if len(case.names) > 1 else "") + f"@{strength}"
            model = attached(case_name, case, name, strength)
            with float64_arithmetic():
                y = kinds_nets.outputs(model, x)
            changed = {path: value for path, value in y.items() if not torch.equal(value, base_y[path])}
            for path, value in changed.items():
                keep[f"{label}/{path}"] = value
            forward, f32_gap, said = "only", 0.0, "not merged"
            if case.merge:
                model = attached(case_name, case, name, strength)
                with float64_arithmetic():
                    merged = merged_model(model, case, name)
                    merged_y = kinds_nets.outputs(merged, x)
                gaps = {path: relative(merged_y[path], value) for path, value in y.items()}
                forward = "same" if max(gaps.values()) < 1e-9 else "apart"
                state = merged.state_dict()
                for key, value in state.items():
                    cut = key == "lm_head.weight" and not torch.equal(value, state["transformer.wte.weight"])
                    if cut or (key != "lm_head.weight" and not torch.equal(value, base_state[key])):
                        weights[f"{label}/{key}"] = value
                # PEFT's own float32 says how far an honest float32 implementation may be off
                case32 = attached(case_name, case, name, strength).float()
                if case.merge == "peft":
                    state32 = case32.merge_and_unload().state_dict()
                    f32_gap = max(relative(state32[k].double(), v) for k, v in state.items())
                said = f"merged against forward {max(gaps.values()):.1e}, f32 against f64 {f32_gap:.1e}"
            rows.append(
                [label, "peft", folder_path(case_name, case), case.base, case.kind, str(strength), "1e-6", forward, case.notes]
            )
            assert f32_gap < 5e-7, (label, f32_gap)
            print(f"{label:36} {len(changed):2} outputs, {said}" + ("  <-- apart" if forward == "apart" else ""))
    return rows


def folder_path(case_name, case):
    return f"peft/{case_name}" + ("/pytorch_lora_weights.safetensors" if case.layout == "header" else "")


def main():
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    kinds_nets.butterflies_on_cpu()
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir(parents=True)
    kinds_nets.write_base_nets()
    x, weights, keep, rows = kinds_nets.inputs(), {}, {}, []
    for case_name, case in cases().items():
        save(case_name, case)
        rows += goldens(case_name, case, x, weights, keep)
    kinds_nets.save_goldens(KINDS / "peft_weights.safetensors", weights)
    kinds_nets.save_goldens(KINDS / "peft_outputs.safetensors", keep)
    kinds_nets.write_manifest("peft", rows)
    print(f"{len(cases())} cases, {len(rows)} rows, {len(weights)} weights, {len(keep)} outputs")


if __name__ == "__main__":
    main()
