# SPDX-License-Identifier: Apache-2.0
"""Goldens for all-MiniLM-L6-v2 and the adapters of examples/sentences, from transformers and PEFT.

Makes   minilm/minilm_goldens.safetensors   hidden states and embeddings: computed in float64, stored rounded to f32
        minilm/tokens.tsv                   text TAB WordPiece ids with [CLS] and [SEP]; lines 1-5 are the sentences below
        minilm/tokens_hard.tsv              the same for what needs Unicode tables, or special tokens found in text
Run     ../../examples/sentences/fetch_model.sh && python -m pip install -r requirements.txt && python make_minilm_goldens.py
        (one thread, seconds)

Keys: `a.` is one sentence, `b.` a padded batch of four. T tokens, N tokens of the batch that are not padding (mask 1).
  a.ids i32 [1, T]   a.mask f32 [1, T]   a.hidden.0 .. a.hidden.6 f32 [1, T, 384]: the embedding output, then each layer's
  b.ids i32 [4, T]   b.mask f32 [4, T]
  b.last_hidden/CASE f32 [N, 384]: the tokens with mask 1, sentence after sentence     b.embedding/CASE f32 [4, 384]
CASE says what is attached: `base`, `tone_qv@0.5`, `tone_qv@0.7+tone_all@0.4`; the number after @ multiplies alpha / r.
`merged:` before it: the same after PEFT merged the weights.
"""
import os
import pathlib

import torch
import transformers
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from transformers import BertModel, BertTokenizer

HERE = pathlib.Path(__file__).resolve().parent
ADAPTERS = HERE.parents[1] / "examples" / "sentences" / "data"
MODEL = pathlib.Path(os.environ.get("TENON_CACHE") or pathlib.Path.home() / ".cache" / "tenon") / "all-MiniLM-L6-v2"

SENTENCE = "The soup was cold."
BATCH = ["Hello!", "What a day!", "The train was late.", "She quietly repaired the broken clock in the hall."]
CASES = [{}, *({name: scale} for name in ("tone_qv", "tone_all") for scale in (1, 0.5, -0.5)), {"tone_qv": 0.7, "tone_all": 0.4}]
MERGED = [{"tone_qv": 1}, {"tone_all": 1}]

TEXTS = [
    SENTENCE, *BATCH,
    "a",
    "  several   spaces  and a trailing one ",
    "HELLO World, MiXeD CaSe!",
    "Don't stop; it's (really) \"quoted\" -- isn't it?",
    "e-mail me: jane.doe+test@example.org, 50% off!!!",
    "#hashtag $5.99 & a_b*c = d/e <f> [g] {h} ~i^j`k|l\\m",
    "In 2024, 1234567890 people paid 3.14159 twice.",
    "caf\u00e9 na\u00efve r\u00e9sum\u00e9 \u00c5ngstr\u00f6m \u00dcber \u00d1and\u00fa",
    "stra\u00dfe \u00c6sir \u00f8re \u0142\u00f3d\u017a",
    "low-rank adaptation of transformers",
    "unaffable antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "Donaudampfschifffahrtsgesellschaftskapit\u00e4n",
    "floccinaucinihilipilification xqzjvkw",
    "x" * 100,
    "y" * 101 + " longer than a hundred characters",
    "\u4e2d\u6587 and \u65e5\u672c\u8a9e mixed\u5728one",
    "snow \u2603 rocket \U0001f680 done",
    "\u201ccurly\u201d \u2018quotes\u2019 \u2014 dashes \u2013 and \u2026 dots",
    "5\u20ac 10\u00a3 20\u00b0C \u00bd \u00b5m x\u00b2",
    "tenon tenons mortise mortising LoRA qkv",
    ".",
    "",
]
HARD_TEXTS = [
    "[MASK] is a special token, [CLS] and [SEP] too",
    "cafe\u0301 with a combining accent",
    "\u041c\u043e\u0441\u043a\u0432\u0430 \u0419\u043e\u0434 \u0451\u043b\u043a\u0430",
    "\u0391\u03b8\u03ae\u03bd\u03b1 \u03a3\u039f\u03a6\u039f\u03a3",
    "\ud55c\uad6d\uc5b4 \uc11c\uc6b8",
    "\u3072\u3089\u304c\u306a \u30ab\u30bf\u30ab\u30ca \u30ac",
    "\u0130stanbul \u0131\u015f\u0131k",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea",
    "\u0939\u093f\u0928\u094d\u0926\u0940",
    "no\u00a0break thin\u2009space zero\u200bwidth soft\u00adhyphen",
    "\ufb01ne \uff21\uff22\uff23 \uff11\uff12\uff13\uff0c",
    "Vi\u1ec7t Nam \u0110\u00e0 N\u1eb5ng",
    "replacement \ufffd and bom \ufeffhere",
]


def label(case):
    return "+".join(f"{name}@{scale}" for name, scale in case.items()) or "base"


def base_model():
    return BertModel.from_pretrained(MODEL, add_pooling_layer=False, attn_implementation="eager", dtype=torch.float32).eval()


def attached(case, merge=False):
    """The encoder with the adapters of `case` attached by PEFT at their scales, all in float64, merged on request."""
    if not case:
        return base_model().double()
    names = list(case)
    model = PeftModel.from_pretrained(base_model(), str(ADAPTERS / names[0]), adapter_name=names[0])
    for name in names[1:]:
        model.load_adapter(str(ADAPTERS / name), adapter_name=name)
    model.base_model.set_adapter(names)
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            for name, scale in case.items():
                layer.set_scale(name, scale)
    model.double().eval()
    if merge:
        model.merge_adapter(names)
    return model


def encode(model, batch):
    """(last hidden state [n, T, 384], embedding [n, 384])"""
    hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    return hidden, torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


def write_tokens(path, texts, tokenizer):
    assert not any(c in text for text in texts for c in "\t\r\n")
    lines = [f"{text}\t{' '.join(str(i) for i in tokenizer(text)['input_ids'])}\n" for text in texts]
    path.write_text("".join(lines), encoding="utf-8")


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer = BertTokenizer.from_pretrained(MODEL)
    write_tokens(HERE / "minilm" / "tokens.tsv", TEXTS, tokenizer)
    write_tokens(HERE / "minilm" / "tokens_hard.tsv", HARD_TEXTS, tokenizer)

    goldens = {}
    one = tokenizer([SENTENCE], return_tensors="pt")
    goldens["a.ids"], goldens["a.mask"] = one["input_ids"].int(), one["attention_mask"].float()
    exact = attached({})(**one, output_hidden_states=True).hidden_states
    single = base_model()(**one, output_hidden_states=True).hidden_states
    for i, (hidden, in_f32) in enumerate(zip(exact, single)):
        goldens[f"a.hidden.{i}"] = hidden.float()
        print(f"a.hidden.{i}  largest {hidden.abs().max():7.3f}   torch's own float32 error: max {(in_f32 - hidden).abs().max():.1e}")

    batch = tokenizer(BATCH, padding=True, return_tensors="pt")
    goldens["b.ids"], goldens["b.mask"] = batch["input_ids"].int(), batch["attention_mask"].float()
    valid = batch["attention_mask"].bool()
    base = None
    for case, merge in [(c, False) for c in CASES] + [(c, True) for c in MERGED]:
        hidden, embedding = encode(attached(case, merge), batch)
        base = embedding if base is None else base
        key = "merged:" * merge + label(case)
        goldens["b.last_hidden/" + key], goldens["b.embedding/" + key] = hidden[valid].float(), embedding.float()
        print(f"{key:28} cosine with base: " + " ".join(f"{c:6.3f}" for c in (embedding * base).sum(1)))
    hidden, embedding = encode(base_model(), batch)
    print(f"b.embedding: torch's own float32 error: max {(embedding - base).abs().max():.1e}")
    save_file({k: v.contiguous() for k, v in goldens.items()}, HERE / "minilm" / "minilm_goldens.safetensors")


if __name__ == "__main__":
    main()
