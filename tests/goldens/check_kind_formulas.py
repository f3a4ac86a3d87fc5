# SPDX-License-Identifier: Apache-2.0
"""Computes every merged weight of kinds/ again, from the adapter's file by the plain formula of its kind, in NumPy.

Run     python check_kind_formulas.py        (after the goldens are made; needs safetensors and torch only to read files)

Prints the largest difference of each row of the manifest, relative to the largest weight, and exits with 1 if one is above its
tolerance, or if a golden weight is not reached at all. Left out: rows without merged weights, and VeRA without its projections.
"""

import json
import re
import sys

import numpy as np
import torch
from safetensors import safe_open

from kinds_nets import KINDS


def read(path):
    with safe_open(path, "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}
        return {k: (v.double() if v.is_floating_point() else v).numpy() for k, v in tensors.items()}, file.metadata() or {}


def norm(x, keep):
    """L2 over every axis but `keep`, shaped to be divided by."""
    return np.sqrt((x**2).sum(axis=tuple(i for i in range(x.ndim) if i != keep), keepdims=True))


def product(up, down, shape):
    """B A, the kernel of A carried along: B [out, r, 1...], A [r, in, k...]."""
    return (up.reshape(up.shape[0], -1) @ down.reshape(down.shape[0], -1)).reshape(shape)


def tucker(t, a, b):
    """sum over i, j of t[i, j, ...] a[i, out] b[j, in]"""
    return np.einsum("ij...,ip,jr->pr...", t, a, b)


def kron(w1, w2):
    return np.kron(w1.reshape(w1.shape + (1,) * (w2.ndim - w1.ndim)), w2)


def block_diagonal(blocks):
    count, size = blocks.shape[:2]
    out = np.zeros((count * size, count * size))
    for i, block in enumerate(blocks):
        out[i * size : (i + 1) * size, i * size : (i + 1) * size] = block
    return out


def cayley(q):
    """(I - Q)(I + Q)^-1, PEFT's sign."""
    eye = np.eye(q.shape[-1])
    return (eye - q) @ np.linalg.inv(eye + q)


def neumann(q, terms):
    """PEFT's series for (I + Q)(I - Q)^-1, the other sign: I + 2Q + 2Q^2 + ... + Q^(terms - 1). 3 terms are computed as 4."""
    out, power = np.eye(q.shape[-1]) + 2 * q * (terms > 1), q
    last = max(terms, 4) - 1 if terms > 2 else 0
    for n in range(2, last + 1):
        power = power @ q
        out = out + (1 if n == last else 2) * power
    return out


# ---------------------------------------------------------------- PEFT


def of_pattern(pattern, module, otherwise):
    """The first key, in the file's order, that is a whole ending of the path."""
    return next((value for key, value in (pattern or {}).items() if re.match(rf"(.*\.)?({key})$", module)), otherwise)


def peft_oft_rotation(vectors, config):
    size = round((1 + np.sqrt(1 + 8 * vectors.shape[1])) / 2)  # size * (size - 1) / 2 numbers above the diagonal
    q = np.zeros((len(vectors), size, size))
    rows, columns = np.triu_indices(size, 1)
    q[:, rows, columns] = vectors
    q -= q.transpose(0, 2, 1)
    if config["coft"]:
        limit = config["eps"] / np.sqrt(len(q))
        length = np.sqrt((q**2).sum(axis=(1, 2), keepdims=True))
        q = np.where(length <= limit, q, q * limit / length)
    if config["use_cayley_neumann"]:
        return np.stack([neumann(block, config["num_cayley_neumann_terms"]) for block in q])
    return cayley(q)


def peft_butterfly(r):
    """The product of the stages, each a block diagonal between a permutation and its inverse."""
    stages, blocks, size, _ = r.shape
    wide, out = blocks * size, np.eye(blocks * size)
    for i in range(stages):
        order = np.arange(wide)
        if stages > 1:
            half, group = size // 2, wide // (blocks // 2**i)
            pieces = group // half
            picked = [*range(0, pieces, 2), *range(1, pieces, 2)]
            inner = np.concatenate([np.arange(p * half, (p + 1) * half) for p in picked])
            order = np.concatenate([start + inner for start in range(0, wide, group)])
        permutation = np.eye(wide)[order]
        skew = 0.5 * (r[i] - r[i].transpose(0, 2, 1))
        out = permutation @ block_diagonal(cayley(skew)) @ permutation.T @ out
    return out


def peft_module(module, part, base, config, strength, shared):
    """The adapted module's weights: name -> array. `part` maps what follows the module's path to its tensor."""
    name, bias = module + ".weight", module + ".bias"
    out = {f"{module}.{key}": value for key, value in part.items() if key in ("weight", "bias")}  # whole tensors replace
    w = base[name]
    turned = bool(config.get("fan_in_fan_out")) and w.ndim == 2
    w = w.T if turned else w
    flat = w.reshape(w.shape[0], -1)
    rank = of_pattern(config.get("rank_pattern"), module, config.get("r"))
    alpha = of_pattern(config.get("alpha_pattern"), module, config.get("lora_alpha", config.get("alpha")))
    if config["peft_type"] in ("LORA", "LOHA", "LOKR"):
        s = strength * alpha / (np.sqrt(rank) if config.get("use_rslora") else rank)

    if "lora_A.weight" in part:
        new = w + s * product(part["lora_B.weight"], part["lora_A.weight"], w.shape)
        if "lora_B.bias" in part:
            out[bias] = base[bias] + s * part["lora_B.bias"]
    elif "lora_embedding_A" in part:
        new = w + s * (part["lora_embedding_B"] @ part["lora_embedding_A"]).T
    elif "hada_w1_a" in part:
        arms = [(part[f"hada_w{n}_a"], part[f"hada_w{n}_b"], part.get(f"hada_t{n}")) for n in (1, 2)]
        arms = [a @ b if t is None else tucker(t, a, b) for a, b, t in arms]
        new = w + s * (arms[0] * arms[1]).reshape(w.shape)
    elif "lokr_w1" in part or "lokr_w1_a" in part:
        w1 = part["lokr_w1"] if "lokr_w1" in part else part["lokr_w1_a"] @ part["lokr_w1_b"]
        if "lokr_w2" in part:
            w2 = part["lokr_w2"]
        elif "lokr_t2" in part:
            w2 = tucker(part["lokr_t2"], part["lokr_w2_a"], part["lokr_w2_b"])
        else:
            w2 = part["lokr_w2_a"] @ part["lokr_w2_b"]
        if w2.ndim == 3:  # Conv1d with w2 full: PEFT's product runs over the wrong axes, and so does what it trained
            w1 = w1[None]
        new = w + s * kron(w1, w2).reshape(w.shape)
    elif "ia3_l" in part:
        scale = part["ia3_l"]
        feedforward = any(module.endswith(key) for key in config["feedforward_modules"])
        if feedforward:  # one factor per input; a grouped convolution's rows see their own group's
            groups = scale.size // w.shape[1]
            per_row = np.repeat(scale.reshape(groups, w.shape[1]), w.shape[0] // groups, axis=0)
            new = w * per_row.reshape(w.shape[:2] + (1,) * (w.ndim - 2))
        else:
            new = w * scale.reshape((-1,) + (1,) * (w.ndim - 1))
            if bias in base:
                out[bias] = base[bias] * scale.ravel()
    elif "oft_R.weight" in part:
        rotation = peft_oft_rotation(part["oft_R.weight"], config)
        if config["block_share"]:
            rotation = np.repeat(rotation, flat.shape[1] // rotation.shape[1], axis=0)
        new = (flat @ block_diagonal(rotation).T).reshape(w.shape)
    elif "oft_embedding_R.weight" in part:
        new = w @ block_diagonal(peft_oft_rotation(part["oft_embedding_R.weight"], config))
    elif "boft_R" in part:
        new = (part["boft_s"].reshape(-1, 1) * (flat @ peft_butterfly(part["boft_R"]).T)).reshape(w.shape)
    elif "vera_lambda_b" in part:
        a, b = shared["vera_A"][:, : w.shape[1]], shared["vera_B"][: w.shape[0]]
        new = w + (part["vera_lambda_b"][:, None] * b) @ (part["vera_lambda_d"][:, None] * a)
    elif any(key.startswith("glora_") for key in part):

        def glora(path):
            return part[f"{path}.Xd"] @ part[f"{path}.Xu"] if f"{path}.Xd" in part else part.get(f"{path}.X", part.get(f"{path}.zeros"))

        new = w + w * glora("glora_A") + glora("glora_B")
        if bias in base:  # a trained one stands in for the base's
            b = out.get(bias, base[bias])
            out[bias] = b + b * glora("glora_D") + glora("glora_E") + (w @ glora("glora_C")).ravel()
    elif "token_adapter.trainable_tokens_delta" in part:
        new = w.copy()
        new[config["trainable_token_indices"][module.rpartition(".")[2]]] = part["token_adapter.trainable_tokens_delta"]
    else:
        return out
    if "lora_magnitude_vector" in part:  # DoRA: the norm of an output, which for an embedding is a column
        axis = 1 if "lora_embedding_A" in part else 0
        magnitude = part["lora_magnitude_vector"].reshape(tuple(-1 if i == axis else 1 for i in range(w.ndim)))
        new = magnitude * new / norm(new, axis)
    out[name] = new.T if turned else new
    return out


PEFT_PARTS = sorted(
    [
        "weight",
        "bias",
        "lora_A.weight",
        "lora_B.weight",
        "lora_B.bias",
        "lora_embedding_A",
        "lora_embedding_B",
        "lora_magnitude_vector",
        "hada_w1_a",
        "hada_w1_b",
        "hada_w2_a",
        "hada_w2_b",
        "hada_t1",
        "hada_t2",
        "lokr_w1",
        "lokr_w1_a",
        "lokr_w1_b",
        "lokr_w2",
        "lokr_w2_a",
        "lokr_w2_b",
        "lokr_t2",
        "ia3_l",
        "oft_R.weight",
        "oft_embedding_R.weight",
        "boft_R",
        "boft_s",
        "vera_lambda_b",
        "vera_lambda_d",
        "token_adapter.trainable_tokens_delta",
        *(f"glora_{path}.{tensor}" for path in "ABCDE" for tensor in ("Xd", "Xu", "X", "zeros")),
    ],
    key=len,
    reverse=True,
)


def peft(row, base):
    label, path, strength = row["case@strength"], KINDS / row["adapter"], float(row["strength"])
    name = label.split("@")[0].partition(":")[2] or ("my_style" if label.startswith(("names-in-memory", "names-glora")) else None)
    tensors, header = read(path if path.is_file() else path / "adapter_model.safetensors")
    if path.is_file():
        config = {k.removeprefix("transformer."): v for k, v in json.loads(header["lora_adapter_metadata"]).items()}
    else:
        config = json.loads((path / "adapter_config.json").read_text())
    modules, shared = {}, {}
    for key, value in tensors.items():
        key = re.sub(r"^(base_model\.model\.|base_model\.|transformer\.(?!wte|h\.|ln))", "", key)
        if name is not None:
            if f".{name}" not in key:
                continue
            key = key.replace(".modules_to_save", "").replace(f".{name}", "")
            key = key.replace("lora_magnitude_vector.weight", "lora_magnitude_vector")
        key = key.replace(".base_layer.", ".")  # so PEFT names the bias of a target when biases are trained
        if key.startswith("vera_"):
            shared[key] = value
            continue
        part = next(p for p in PEFT_PARTS if key.endswith("." + p))
        modules.setdefault(key.removesuffix("." + part), {})[part] = value
    out = {}
    for module, part in modules.items():
        if module != "lm_head":  # tied: the same numbers once more
            out |= peft_module(module, part, base, config, strength, shared)
    return out


# ---------------------------------------------------------------- LyCORIS


def lycoris_rotation(blocks, limit):
    """(I + Q)(I - Q)^-1 with Q = X - X^T, its norm over all blocks together at most `limit` (0: no limit)."""
    q = blocks - np.swapaxes(blocks, -1, -2)
    length = np.sqrt((q**2).sum()) + 1e-8
    if 0 < limit < length:
        q = q * limit / length
    eye = np.eye(q.shape[-1])
    return (eye + q) @ np.linalg.inv(eye - q)


def lycoris_module(module, part, base, strength, rank_stabilised):
    name, bias = module + ".weight", module + ".bias"
    w = base[name]
    flat, out = w.reshape(w.shape[0], -1), {}

    def scale(rank):
        return part["alpha"] / (np.sqrt(rank) if rank_stabilised else rank)

    def added(delta):
        """W + s*delta, or DoRA: the strength goes between 1 and m / norm."""
        if "dora_scale" not in part:
            return w + strength * delta
        keep = 0 if part["dora_scale"].shape[0] == w.shape[0] and part["dora_scale"].size == w.shape[0] else 1
        new = w + delta
        return new * (strength * (part["dora_scale"] / norm(new, keep) - 1) + 1)

    if "lora_up.weight" in part:
        down, up = part["lora_down.weight"], part["lora_up.weight"]
        if "lora_mid.weight" in part:
            delta = np.einsum(
                "nm...,in,mj->ij...", part["lora_mid.weight"], up.reshape(up.shape[:2]), down.reshape(down.shape[:2])
            )
        else:
            delta = product(up, down, w.shape)
        out[name] = added(scale(down.shape[0]) * delta)
    elif "hada_w1_a" in part:
        arms = [(part[f"hada_w{n}_a"], part[f"hada_w{n}_b"], part.get(f"hada_t{n}")) for n in (1, 2)]
        arms = [a @ b if t is None else tucker(t, a, b) for a, b, t in arms]
        out[name] = added(scale(part["hada_w1_b"].shape[0]) * (arms[0] * arms[1]).reshape(w.shape))
    elif "lokr_w1" in part or "lokr_w1_a" in part:
        both_full = "lokr_w1" in part and "lokr_w2" in part
        rank = (part["lokr_w2_b"] if "lokr_w2_b" in part else part["lokr_w1_b"]).shape[0] if not both_full else 1
        w1 = part["lokr_w1"] if "lokr_w1" in part else part["lokr_w1_a"] @ part["lokr_w1_b"]
        if "lokr_w2" in part:
            w2 = part["lokr_w2"]
        elif "lokr_t2" in part:
            w2 = tucker(part["lokr_t2"], part["lokr_w2_a"], part["lokr_w2_b"])
        else:
            w2 = part["lokr_w2_a"] @ part["lokr_w2_b"]
        out[name] = added((1 if both_full else scale(rank)) * kron(w1, w2).reshape(w.shape))
    elif "on_input" in part:
        axis = 1 if part["on_input"] else 0
        out[name] = w * (1 + strength * part["weight"].reshape(tuple(-1 if i == axis else 1 for i in range(w.ndim))))
    elif "diff" in part or "w_norm" in part:
        out[name] = w + strength * part["diff" if "diff" in part else "w_norm"]
        change = part.get("diff_b", part.get("b_norm"))
        if change is not None:
            out[bias] = base[bias] + strength * change
    elif "oft_blocks" in part:
        blocks = part["oft_blocks"]
        rotation = lycoris_rotation(blocks, part["alpha"] * w.shape[0])
        eye = np.eye(blocks.shape[-1])
        if blocks.ndim == 3:  # OFT: R^T on blocks of rows
            rotation = strength * (rotation - eye) + eye
            new = np.einsum("knm,knc->kmc", rotation, flat.reshape(*blocks.shape[:2], -1)).reshape(w.shape)
        else:  # BOFT: stage i mixes rows that are 2^i half blocks apart, R on each
            new = flat
            for i, stage in enumerate(rotation):
                reach = 2**i * blocks.shape[-1] // 2
                mixed = new.reshape(-1, 2, reach, new.shape[1]).transpose(0, 2, 1, 3).reshape(*stage.shape[:2], -1)
                mixed = (strength * stage + (1 - strength) * eye) @ mixed
                new = mixed.reshape(-1, reach, 2, new.shape[1]).transpose(0, 2, 1, 3).reshape(flat.shape)
            new = new.reshape(w.shape)
        out[name] = part["rescale"] * new if "rescale" in part else new
    elif "a1.weight" in part:
        a1, a2, b1, b2 = (part[k + ".weight"] for k in ("a1", "a2", "b1", "b2"))
        through = np.einsum("oi...,ij,jm->om...", w, a1.reshape(a1.shape[:2]), a2.reshape(a2.shape[:2]))
        out[name] = w + strength * scale(a2.shape[0]) * (through + product(b1, b2, w.shape))
    return out


def lycoris(row, base):
    tensors, _ = read(KINDS / row["adapter"])
    paths = {
        name.removesuffix(".weight").replace(".", "_"): name.removesuffix(".weight") for name in base if name.endswith(".weight")
    }
    modules = {}
    for key, value in tensors.items():
        module, _, part = key.partition(".")
        modules.setdefault(paths[re.sub("^(lycoris|lora_unet)_", "", module)], {})[part] = value
    out = {}
    for module, part in modules.items():
        # GLoRA alone stores plain alpha under rs_lora, so the file does not say that it was used
        out |= lycoris_module(module, part, base, float(row["strength"]), row["case@strength"].startswith("glora-rslora"))
    return out


# ---------------------------------------------------------------- kohya


def kohya(row, base):
    """Its LoRA is LyCORIS's, a missing alpha being the rank. Its OFT too, but for an alpha of 0, which lets nothing rotate."""
    tensors, _ = read(KINDS / row["adapter"])
    paths = {name.removesuffix(".weight").replace(".", "_"): name.removesuffix(".weight") for name in base}
    modules = {}
    for key, value in tensors.items():
        module, _, part = key.partition(".")
        modules.setdefault(paths[re.sub("^(lora|oft)_unet_", "", module)], {})[part] = value
    out = {}
    for module, part in modules.items():
        if "lora_up.weight" in part:
            part.setdefault("alpha", part["lora_down.weight"].shape[0])
        elif part["alpha"] == 0:
            out[module + ".weight"] = base[module + ".weight"]
            continue
        out |= lycoris_module(module, part, base, float(row["strength"]), False)
    return out


def main():
    lines = [line.split("\t") for line in (KINDS / "manifest.tsv").read_text().splitlines()]
    rows = [dict(zip(["case@strength", *lines[0][1:]], line)) for line in lines[1:]]
    bases = {name: read(KINDS / name)[0] for name in {row["base"] for row in rows}}
    wrong = 0
    for tool, formula in (("peft", peft), ("lycoris", lycoris), ("kohya", kohya)):
        golden = read(KINDS / f"{tool}_weights.safetensors")[0]
        for row in (row for row in rows if row["tool"] == tool):
            label = row["case@strength"]
            expected = {k.removeprefix(label + "/"): v for k, v in golden.items() if k.startswith(label + "/")}
            if row["forward"] == "only" or label.startswith("vera-no-projection"):
                print(f"-       {tool} {label}")
                continue
            base = bases[row["base"]]
            got = formula(row, base)
            expected = {k: v for k, v in expected.items() if k != "lm_head.weight"}
            gap = max((np.abs(got[k] - v).max() / np.abs(v).max() if k in got else np.inf) for k, v in expected.items())
            good = gap < float(row["tolerance"]) and expected
            wrong += not good
            print(f"{gap:.1e} {tool} {label}{'' if good else '  <-- WRONG'}")
    print(f"{len(rows)} rows, {wrong} wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
