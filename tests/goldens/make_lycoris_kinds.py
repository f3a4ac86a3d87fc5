# SPDX-License-Identifier: Apache-2.0
"""Adapters of every kind that LyCORIS has, as LyCORIS saves them, and what its networks compute with them.

Makes   kinds/lycoris/CASE.safetensors      random and non-zero everywhere, under lycoris_<path with underscores>
        kinds/lycoris_weights.safetensors   CASE@STRENGTH/<weight name>: the weight that the adapted layer uses in its forward
        kinds/lycoris_outputs.safetensors   CASE@STRENGTH/<module path>: what the adapted layer gives on inputs.safetensors
        kinds/manifest.tsv                  the rows of these cases
        kinds/lycoris_merges.tsv            where merge_to, or the network that create_lycoris_from_weights makes of the file, has
                                            other weights than the forward: by how much, relative to the largest, or the error
Run     python -m pip install -r requirements.txt && python make_lycoris_kinds.py        (one thread; after make_peft_kinds.py)

A case's network is made with its options, filled and saved; then made again in float64, filled from the file, and run; goldens are
stored rounded to f32. LyCORIS casts to float32 in a few places (its DoRA scale, the inverse of OFT): while goldens are computed,
such a cast gives float64. What the forward does is the truth here, because it is what training optimised; merge_to applies
alpha/rank twice for LoHa and LoKr. STRENGTH is LyCORIS's multiplier.
"""

import logging
import shutil

import torch
from lycoris.modules.full import FullModule
from lycoris.wrapper import LycorisNetwork, create_lycoris_from_weights
from safetensors.torch import load_file

import kinds_nets
from kinds_nets import KINDS, drawn, layers

HERE = KINDS / "lycoris"
LINEAR = ["attn.q", "attn.k", "attn.o"]
CONV = ["conv.one", "conv.three", "conv.line", "conv.box"]
BOTH = ["attn.q", "attn.o", "mlp.up", "conv.one", "conv.three"]
FEW = ["attn.q", "attn.o", "conv.three"]
HALF = (1, 0.5)


class Case:
    def __init__(self, algo, targets, strengths=(1,), dtype=None, dim=3, alpha=2, prefix="lycoris", notes="", **options):
        self.prefix = prefix
        self.algo, self.targets, self.strengths, self.dtype, self.dim, self.alpha = algo, targets, strengths, dtype, dim, alpha
        self.notes, self.options = notes, options


def cases():
    f16, bf16 = torch.float16, torch.bfloat16
    return {
        "locon-linear": Case("locon", LINEAR, (1, 0.5, -2)),
        "locon-rank1": Case("locon", LINEAR, dim=1, alpha=3),
        "locon-conv": Case("locon", CONV, HALF),
        "locon-conv-grouped": Case("locon", ["conv.grouped"], HALF, notes="lora_down is [r, in/groups, k, k]"),
        "locon-tucker": Case("locon", CONV, HALF, use_tucker=True, notes="lora_mid, but not on 1x1"),
        "locon-rslora": Case(
            "locon",
            LINEAR + ["conv.three"],
            HALF,
            dim=4,
            alpha=3,
            rs_lora=True,
            notes="scale alpha/sqrt(rank); the file's alpha is alpha*sqrt(rank), so alpha/rank is right",
        ),
        "locon-scalar": Case("locon", LINEAR + ["conv.three"], use_scalar=True, notes="the scalar is in lora_up already"),
        "locon-kohya-prefix": Case(
            "locon", LINEAR + ["conv.three"], HALF, prefix="lora_unet", notes="lora_unet_ as LyCORIS under kohya"
        ),
        "locon-f16": Case("locon", FEW, dtype=f16),
        "locon-bf16": Case("locon", FEW, dtype=bf16),
        "locon-tucker-f16": Case("locon", ["conv.three"], dtype=f16, use_tucker=True),
        "dora-out": Case(
            "locon",
            BOTH,
            (1, 0.5, -1),
            weight_decompose=True,
            wd_on_out=True,
            notes="dora_scale [out, 1, ...]; strength s: s*(m/norm - 1) + 1, times W + delta",
        ),
        "dora-in": Case("locon", BOTH, (1, 0.5, -1), weight_decompose=True, wd_on_out=False, notes="dora_scale [1, in, 1, ...]"),
        "dora-out-tucker": Case("locon", ["conv.three"], HALF, weight_decompose=True, wd_on_out=True, use_tucker=True),
        "dora-in-rslora": Case("locon", LINEAR, HALF, dim=4, alpha=3, weight_decompose=True, wd_on_out=False, rs_lora=True),
        "dora-out-f16": Case("locon", FEW, dtype=f16, weight_decompose=True, wd_on_out=True),
        "dora-out-bf16": Case("locon", FEW, dtype=bf16, weight_decompose=True, wd_on_out=True),
        "dora-in-bf16": Case("locon", FEW, dtype=bf16, weight_decompose=True, wd_on_out=False),
        "loha-linear": Case("loha", LINEAR, HALF),
        "loha-rank1": Case("loha", LINEAR, dim=1, alpha=1),
        "loha-conv": Case("loha", CONV, HALF, notes="factors over in*k*k"),
        "loha-conv-grouped": Case("loha", ["conv.grouped"]),
        "loha-tucker": Case("loha", CONV, HALF, use_tucker=True, notes="hada_t1, hada_t2; w1_a is [r, out]"),
        "loha-rslora": Case("loha", LINEAR, dim=4, alpha=3, rs_lora=True),
        "loha-scalar": Case("loha", LINEAR, use_scalar=True),
        "loha-dora-out": Case("loha", BOTH, HALF, weight_decompose=True, wd_on_out=True),
        "loha-dora-in": Case("loha", BOTH, HALF, weight_decompose=True, wd_on_out=False),
        "loha-dora-tucker": Case("loha", ["conv.three", "conv.line"], weight_decompose=True, wd_on_out=True, use_tucker=True),
        "loha-f16": Case("loha", FEW, dtype=f16),
        "loha-bf16": Case("loha", FEW, dtype=bf16),
        "lokr-linear": Case("lokr", LINEAR + ["mlp.up"], HALF, dim=1, alpha=2, notes="w1 full, w2 factored"),
        "lokr-decompose-both": Case("lokr", ["attn.q", "mlp.up"], HALF, dim=1, alpha=3, decompose_both=True),
        "lokr-factor": Case("lokr", LINEAR + ["mlp.up"], dim=2, alpha=3, factor=2),
        "lokr-unbalanced": Case("lokr", ["attn.q", "mlp.up"], dim=1, alpha=3, unbalanced_factorization=True),
        "lokr-full-matrix": Case(
            "lokr",
            LINEAR + ["conv.three", "conv.line"],
            HALF,
            alpha=2,
            full_matrix=True,
            notes="both full: no scale, the file's alpha is the rank of the options",
        ),
        "lokr-large-rank": Case("lokr", LINEAR, dim=8, alpha=2, notes="rank too large: both full, no scale"),
        "lokr-conv": Case("lokr", CONV, HALF, dim=1, alpha=2),
        "lokr-conv-grouped": Case("lokr", ["conv.grouped"], dim=1, alpha=2),
        "lokr-tucker": Case("lokr", CONV, HALF, dim=1, alpha=2, factor=2, use_tucker=True, notes="lokr_t2"),
        "lokr-rslora": Case("lokr", ["mlp.up", "mlp.down"], dim=4, alpha=3, factor=2, rs_lora=True),
        "lokr-scalar": Case("lokr", LINEAR, dim=1, use_scalar=True),
        "lokr-dora-out": Case("lokr", BOTH, HALF, dim=1, weight_decompose=True, wd_on_out=True),
        "lokr-dora-in": Case("lokr", BOTH, HALF, dim=1, weight_decompose=True, wd_on_out=False),
        "lokr-dora-full": Case("lokr", LINEAR, weight_decompose=True, wd_on_out=True, full_matrix=True),
        "lokr-f16": Case("lokr", FEW, dtype=f16, dim=1),
        "lokr-bf16": Case("lokr", FEW, dtype=bf16, dim=1),
        "ia3-output": Case(
            "ia3", ["attn.q", "attn.o"] + CONV, HALF, notes="weight is a difference: rows * (1 + s*w), the bias stays"
        ),
        "ia3-input": Case("ia3", ["attn.q", "attn.o"] + CONV, HALF, train_on_input=True, notes="columns * (1 + s*w)"),
        "ia3-f16": Case("ia3", ["attn.q", "conv.three"], dtype=f16, notes="on_input is f16 too"),
        "ia3-bf16": Case("ia3", ["attn.q", "conv.three"], dtype=bf16, train_on_input=True),
        "full": Case("full", BOTH, HALF, notes="diff and diff_b"),
        "full-f16": Case("full", FEW, dtype=f16),
        "full-bf16": Case("full", FEW, dtype=bf16),
        "norms": Case("locon", ["norm", "group_norm"], HALF, train_norm=True, notes="w_norm, b_norm"),
        "norms-and-locon": Case("locon", ["norm", "attn.q"], train_norm=True),
        "norms-f16": Case("locon", ["norm", "group_norm"], dtype=f16, train_norm=True),
        "norms-bf16": Case("locon", ["norm", "group_norm"], dtype=bf16, train_norm=True),
        "oft-linear": Case("diag-oft", LINEAR + ["mlp.up"], HALF, dim=4, notes="strength s: s*(R - I) + I"),
        "oft-conv": Case("diag-oft", CONV, HALF, dim=4),
        "oft-constraint": Case(
            "diag-oft", LINEAR, HALF, dim=4, constraint=0.0625, notes="alpha is the constraint: norm(Q) <= alpha*out"
        ),
        "oft-constraint-not-reached": Case("diag-oft", LINEAR, dim=4, constraint=0.5),
        "oft-rescaled": Case("diag-oft", ["attn.q", "conv.three"], HALF, dim=4, rescaled=True),
        "oft-constraint-rescaled": Case("diag-oft", ["attn.q", "conv.three"], dim=4, constraint=0.0625, rescaled=True),
        "oft-f16": Case("diag-oft", ["attn.q", "conv.three"], dtype=f16, dim=4),
        "oft-bf16": Case("diag-oft", ["attn.q", "conv.three"], dtype=bf16, dim=4, rescaled=True),
        "boft-linear": Case("boft", LINEAR + ["mlp.up"], HALF, dim=8, notes="strength enters every stage"),
        "boft-small-blocks": Case("boft", LINEAR, HALF, dim=2, notes="block 2, three stages"),
        "boft-conv": Case("boft", CONV, HALF, dim=8),
        "boft-constraint": Case("boft", LINEAR, dim=8, constraint=0.0625),
        "boft-rescaled": Case("boft", ["attn.q", "conv.three"], HALF, dim=8, rescaled=True),
        "boft-f16": Case("boft", ["attn.q", "conv.three"], dtype=f16, dim=8),
        "boft-bf16": Case("boft", ["attn.q", "conv.three"], dtype=bf16, dim=8),
        "glora-linear": Case("glora", LINEAR, HALF, notes="s*(W a1 a2 + b1 b2), a1 [in, r], a2 [r, in]"),
        "glora-conv": Case("glora", CONV, HALF),
        "glora-rslora": Case(
            "glora",
            ["attn.q"],
            dim=4,
            alpha=3,
            rs_lora=True,
            notes="the file's alpha is plain alpha: alpha/rank is not the scale",
        ),
        "glora-f16": Case("glora", ["attn.q", "conv.three"], dtype=f16),
        "glora-bf16": Case("glora", ["attn.q", "conv.three"], dtype=bf16),
    }


def network(net, case, multiplier=1.0):
    LycorisNetwork.apply_preset(
        {
            "enable_conv": True,
            "target_module": [],
            "target_name": list(case.targets),
            "module_algo_map": {},
            "name_algo_map": {},
            "lora_prefix": case.prefix,
            "use_fnmatch": False,
            "exclude_name": [],
        }
    )
    return LycorisNetwork(
        net,
        multiplier=multiplier,
        lora_dim=case.dim,
        alpha=case.alpha,
        conv_lora_dim=case.dim,
        conv_alpha=case.alpha,
        network_module=case.algo,
        warn_on_unmatched=False,
        **case.options,
    )


@torch.no_grad()
def fill(net, case_name):
    for key, value in sorted(net.named_parameters()):
        noise = drawn(f"lycoris/{case_name}/{key}", value.shape)
        if key.endswith("dora_scale") or key.endswith("rescale"):
            value.mul_(1 + 0.2 * noise)
        elif key.endswith("oft_blocks"):
            value.copy_(0.2 * noise)
        elif key.endswith("scalar"):
            value.copy_(0.5 + 0.1 * noise)
        elif "hada_" in key:
            value.copy_(0.6 * noise)
        elif any(key.endswith(name) for name in (".weight", ".bias")) and not any(
            n in key for n in ("lora_", ".a1.", ".a2.", ".b1.", ".b2.")
        ):
            value.add_(0.3 * noise)  # full differences on top of the base's weights, (IA)^3 differences on top of 0
        else:
            value.copy_(0.4 * noise)


def save(case_name, case):
    net = network(layers(), case)
    net.apply_to()
    fill(net, case_name)
    with torch.no_grad():
        net.save_weights(str(HERE / f"{case_name}.safetensors"), case.dtype, None)


class Recorder:
    """Stands in for a module's own op: keeps the weight and bias that it was called with."""

    def __init__(self, op):
        self.op, self.weight, self.bias = op, None, None

    def __call__(self, x, weight=None, bias=None, **kw):
        self.weight, self.bias = weight, bias
        return self.op(x, weight=weight, bias=bias, **kw)


@torch.no_grad()
def run(case_name, case, strength, x, dtype=torch.float64):
    """Outputs of the adapted layers and the weights that their forwards used."""
    net = layers().to(dtype)
    base = {k: v.clone() for k, v in net.state_dict().items()}
    net_lyco = network(net, case, strength)
    file = {k: v.to(dtype) if v.is_floating_point() else v for k, v in load_file(HERE / f"{case_name}.safetensors").items()}
    net_lyco.apply_to()
    left = net_lyco.load_state_dict(file, strict=False)
    assert not left.unexpected_keys, left
    net_lyco.to(dtype).eval()
    used = {}
    for lora in net_lyco.loras:
        lora.op = Recorder(lora.op)
    y = {path: net.get_submodule(path)(x[path].to(dtype)) for path in case.targets}
    paths = {path.replace(".", "_"): path for path in case.targets}
    for lora in net_lyco.loras:
        path = paths[lora.lora_name.removeprefix(case.prefix + "_")]
        absolute = isinstance(lora, FullModule)
        weight, bias = lora.op.weight, lora.op.bias
        used[path + ".weight"] = weight if absolute else base[path + ".weight"] + weight
        if bias is not None:
            used[path + ".bias"] = bias if absolute else base[path + ".bias"] + bias
    return y, used


@torch.no_grad()
def merged(case_name, case, strength, loader):
    """The state after LyCORIS's merge: of the network made with the case's options, or of the one that its loader makes."""
    net = layers().double()
    file = {k: v.double() if v.is_floating_point() else v for k, v in load_file(HERE / f"{case_name}.safetensors").items()}
    if loader:
        net_lyco, _ = create_lycoris_from_weights(strength, "", net, weights_sd=dict(file))
        net_lyco.double().eval()
    else:
        net_lyco = network(net, case, strength)
        for lora in net_lyco.loras:
            own = {k.removeprefix(lora.lora_name + "."): v for k, v in file.items() if k.startswith(lora.lora_name + ".")}
            lora.load_state_dict(own, strict=False)
            lora.double().eval()
    net_lyco.merge_to(strength)
    return net.state_dict()


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def main():
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir(parents=True)
    x, weights, outputs, rows, merges = kinds_nets.inputs(), {}, {}, [], []
    for case_name, case in cases().items():
        save(case_name, case)
        for strength in case.strengths:
            label = f"{case_name}@{strength}"
            with kinds_nets.float_means_double():
                y, used = run(case_name, case, strength, x)
                gaps = {}
                for how in ("merge_to", "loader"):
                    try:
                        state = merged(case_name, case, strength, how == "loader")
                        gaps[how] = max(relative(state[k], v) for k, v in used.items())
                    except Exception as error:  # what LyCORIS cannot do is a finding, not a failure of this script
                        gaps[how] = f"{type(error).__name__}: {str(error).splitlines()[0][:90]}"
                base = layers().double()
                for path, value in y.items():
                    module = base.get_submodule(path)
                    module.load_state_dict(
                        {k.removeprefix(path + "."): v for k, v in used.items() if k.startswith(path + ".")}, strict=False
                    )
                gap = max(relative(base.get_submodule(path)(x[path].double()), value) for path, value in y.items())
            assert gap < 1e-12, (label, gap)  # the weights taken from the forward give the forward's outputs
            f32_gap = max(relative(run(case_name, case, strength, x, torch.float32)[1][k].double(), v) for k, v in used.items())
            assert f32_gap < 5e-7, (label, f32_gap)
            for key, value in used.items():
                weights[f"{label}/{key}"] = value.detach()
            for path, value in y.items():
                outputs[f"{label}/{path}"] = value.detach()
            rows.append(
                [
                    label,
                    "lycoris",
                    f"lycoris/{case_name}.safetensors",
                    "base.safetensors",
                    case_name.split("-")[0],
                    str(strength),
                    "1e-6",
                    "same",
                    case.notes,
                ]
            )
            said = {how: gap if isinstance(gap, str) else f"{gap:.1e}" for how, gap in gaps.items()}
            if any(isinstance(gap, str) or gap > 1e-6 for gap in gaps.values()):
                merges.append("\t".join([label, said["merge_to"], said["loader"]]))
            print(
                f"{label:32} {len(y)} modules  merge_to {said['merge_to']}  loader {said['loader']}  f32 against f64 {f32_gap:.1e}"
            )
    kinds_nets.save_goldens(KINDS / "lycoris_weights.safetensors", weights)
    kinds_nets.save_goldens(KINDS / "lycoris_outputs.safetensors", outputs)
    kinds_nets.write_manifest("lycoris", rows)
    (KINDS / "lycoris_merges.tsv").write_text(
        "# case@strength\tmerge_to against the forward\tcreate_lycoris_from_weights against it\n"
        + "".join(line + "\n" for line in merges)
    )
    print(f"{len(cases())} cases, {len(rows)} rows, {len(weights)} weights, {len(outputs)} outputs")


if __name__ == "__main__":
    main()
