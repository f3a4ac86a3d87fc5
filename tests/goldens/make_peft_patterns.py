# SPDX-License-Identifier: Apache-2.0
"""The truth table of PEFT's own rule for rank_pattern and alpha_pattern: which key, if any, a module path picks.

Makes   peft/patterns.tsv   a header line that starts with #, then rows: keys in dict order, joined by " ; " (a key may
                            hold a |) TAB module path TAB the key that PEFT's get_pattern_key chooses, or - for none
Run     python -m pip install -r requirements.txt && python make_peft_patterns.py        (no torch work, seconds)

Nothing here says what the answer should be: every third column is what PEFT returned.
"""
import pathlib

from peft.utils.other import get_pattern_key

HERE = pathlib.Path(__file__).resolve().parent
SEPARATOR = " ; "

# Three nested levels, each with a module foo, beside modules whose names only look like it.
NESTED = ["foo", "module.foo", "module.module.foo"]
LOOKALIKES = ["barfoo", "foobar", "foo.bar", "module.barfoo", "module.foo_", "foo2.foo1"]
QWEN = "model.layers.7.self_attn.q_proj"
UNET = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0"

TABLE = [
    # one key for all levels, then for the outer, the middle, the inner one
    (["foo"], NESTED + LOOKALIKES),
    (["^foo"], NESTED + ["foobar"]),
    (["^module.foo"], NESTED + ["xmodule.foo"]),
    (["module.foo"], NESTED + ["xmodule.foo", "module_foo"]),
    (["module.module.foo"], NESTED),
    (["^module.module.foo"], NESTED),
    # two keys at once: the first that matches wins, so the order of the dict matters
    (["^foo", "foo"], NESTED),
    (["foo", "^foo"], NESTED),
    (["module.foo", "foo"], NESTED),
    (["foo", "module.module.foo"], NESTED),
    (["^module.foo", "module.module.foo", "foo"], NESTED),
    (["^foo", "^module.foo", "^module.module.foo"], NESTED),
    # keys that match nothing, ends of names, whole paths
    (["bar"], NESTED),
    (["fo", "oo", "foo.", "module"], NESTED[:2]),
    ([".foo", r"\.foo"], NESTED[:2]),
    (["foo$"], NESTED[:1]),
    (["fc1", "fc2"], ["fc1", "fc2", "fc10", "block.fc2"]),
    # regular expressions
    ([r".*\.layers\.[0-9]+\.q_proj", "q_proj"], ["model.layers.7.q_proj", "layers.7.q_proj", "model.layers.x.q_proj", QWEN]),
    ([r".*\.layers\.[0-9]+\..*q_proj"], [QWEN, "model.layers.17.q_proj"]),
    ([r"layers\.\d+\.self_attn\.(q|k)_proj"], [QWEN, QWEN.replace("q_proj", "k_proj"), QWEN.replace("q_proj", "v_proj")]),
    (["q_proj|k_proj"], [QWEN, QWEN.replace("q_proj", "k_proj"), QWEN.replace("q_proj", "xk_proj")]),
    (["(?:q|v)_proj"], [QWEN, QWEN.replace("q_proj", "k_proj")]),
    ([r"layers\.[0-3]\.self_attn\.q_proj", r"layers\.[4-9]\.self_attn\.q_proj"], [QWEN, QWEN.replace("7", "3"), QWEN.replace("7", "13")]),
    ([r"layers\.[^7]\..*"], [QWEN, QWEN.replace("7", "3")]),
    (["blocks.0.up"], ["blocks.0.up", "blocks.10.up", "blocks_0_up", "m.blocks.0.up", "blocksX0Yup"]),
    (["blocks.1.up", "blocks.[0-9]*.up"], ["blocks.1.up", "blocks.11.up", "blocks.21.up"]),
    (["to_out.0"], [UNET, "attn.to_out.0", "attn.to_out.1", "to_out_0", "to_out.00"]),
    (["attn[12].to_[qkv]"], ["blocks.0.attn1.to_q", "blocks.0.attn2.to_v", "blocks.0.attn3.to_q", "attn12.to_q"]),
    (["self_?attn.q_proj"], [QWEN, "model.layers.7.selfattn.q_proj", "model.layers.7.self__attn.q_proj"]),
    (["fo+"], ["fo", "foooo", "f", "a.foo"]),
    (["fo{2}"], ["foo", "fo", "fooo"]),
    (["fo{1,2}", "fo{3,}"], ["fo", "foo", "fooo", "foooooo"]),
    (["fo*?"], ["f", "foo"]),
    ([r"\w+_proj"], [QWEN, "a.b-q_proj", "q_proj"]),
    ([r"\w+"], [QWEN, "a b"]),
    ([r"[^.]+_proj"], [QWEN]),
    (["."], ["x", "a.x", "xy"]),
    ([".*"], [QWEN, "x"]),
    ([r"model\..*\.q_proj$"], [QWEN]),
    (["^model.layers.7", "^model.layers.7.*"], [QWEN]),
    (["(^|.*_)proj"], ["proj", "a.q_proj", "a.proj"]),
    (["(?!q_)[a-z]_proj"], ["q_proj", "k_proj"]),
]


def main():
    rows = [f"# keys in dict order, joined by '{SEPARATOR}'\tmodule path\tchosen key, or -"]
    for keys, paths in TABLE:
        pattern = dict.fromkeys(keys, 1)  # as PEFT holds it
        for path in paths:
            chosen = get_pattern_key(pattern.keys(), path)
            rows.append(f"{SEPARATOR.join(keys)}\t{path}\t{chosen if chosen in pattern else '-'}")
    (HERE / "peft" / "patterns.tsv").write_text("\n".join(rows) + "\n")
    print(f"{len(rows) - 1} rows, {sum(r.endswith(chr(9) + '-') for r in rows)} of them without a match")


if __name__ == "__main__":
    main()
