# SPDX-License-Identifier: Apache-2.0
"""Trains two LoRA adapters that turn all-MiniLM-L6-v2 from "what is it about" to "what is its tone".

Makes   tone_qv/    query and value of every layer, r=8, alpha=16, saved as f32
        tone_all/   all six linears of every layer, r=3, alpha=6, saved as bf16
Reads   training.txt (tone, topic, sentence), and the model that ../fetch_model.sh puts in the cache
Run     ../fetch_model.sh && python -m pip install -r requirements.txt && python make_adapters.py   (one thread, minutes)

The loss is the supervised contrastive one on mean-pooled, normalised embeddings: sentences of one tone attract each other,
whatever their topic. corpus.txt, which the example and the last lines of this script measure, is never trained on.
Everything is seeded: on one machine with these versions a second run writes the same bytes.
"""
import json
import os
import pathlib
import shutil
import tempfile

import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import BertModel, BertTokenizer

HERE = pathlib.Path(__file__).resolve().parent
MODEL = pathlib.Path(os.environ.get("TENON_CACHE") or pathlib.Path.home() / ".cache" / "tenon") / "all-MiniLM-L6-v2"
LINEARS = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
ADAPTERS = {
    "tone_qv": (LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"]), torch.float32),
    "tone_all": (LoraConfig(r=3, lora_alpha=6, target_modules=LINEARS), torch.bfloat16),
}
SEED, STEPS, BATCH, RATE, TEMPERATURE = 20240, 120, 24, 1e-3, 0.1


def read(name):
    """[(tone, topic, sentence)]"""
    return [line.split("\t") for line in (HERE / name).read_text().splitlines()]


def embed(model, tokenizer, sentences):
    """Mean over the tokens of each sentence, divided by its length: [n, 384]"""
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


def contrastive_loss(embeddings, tones):
    """Mean over all pairs of one tone of -log softmax(cosine / temperature)."""
    self_pair = torch.eye(len(tones), dtype=torch.bool)
    same = torch.tensor([[a == b for b in tones] for a in tones]) & ~self_pair
    logits = (embeddings @ embeddings.T / TEMPERATURE).masked_fill(self_pair, -torch.inf)
    return -logits.log_softmax(1)[same].mean()


def train(model, tokenizer, rows):
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(STEPS):
        chosen = [rows[i] for i in torch.randperm(len(rows), generator=generator)[:BATCH]]
        loss = contrastive_loss(embed(model, tokenizer, [r[2] for r in chosen]), [r[0] for r in chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


@torch.no_grad()
def measure(name, model, tokenizer, rows):
    """Mean cosine of pairs that share the tone only / the topic only; how many nearest neighbours share tone / topic."""
    cosine = (e := embed(model, tokenizer, [r[2] for r in rows])) @ e.T
    tone = torch.tensor([[a[0] == b[0] for b in rows] for a in rows])
    topic = torch.tensor([[a[1] == b[1] for b in rows] for a in rows])
    nearest = (cosine - 2 * torch.eye(len(rows))).argmax(1, keepdim=True)
    print(f"{name:9} same tone, other topic {cosine[tone & ~topic].mean():6.3f}   same topic, other tone {cosine[topic & ~tone].mean():6.3f}"
          f"   nearest shares tone {int(tone.gather(1, nearest).sum())}/{len(rows)}, topic {int(topic.gather(1, nearest).sum())}/{len(rows)}")


def convert(model, dtype):
    """Changes the dtype of the adapter's matrices, and of nothing else."""
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)


def save(model, folder):
    """What PEFT saves, less its model card and what differs between runs: the base's path, the order of a Python set."""
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as saved:
        model.save_pretrained(saved)
        shutil.copyfile(f"{saved}/adapter_model.safetensors", folder / "adapter_model.safetensors")
        config = json.loads(pathlib.Path(saved, "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "sentence-transformers/all-MiniLM-L6-v2"
    config["target_modules"] = sorted(config["target_modules"])
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer = BertTokenizer.from_pretrained(MODEL)
    corpus, training = read("corpus.txt"), read("training.txt")
    for name, (config, dtype) in ADAPTERS.items():
        base = BertModel.from_pretrained(MODEL, add_pooling_layer=False).eval()
        if name == next(iter(ADAPTERS)):
            measure("base", base, tokenizer, corpus)
        torch.manual_seed(SEED)
        model = get_peft_model(base, config).eval()  # eval: no dropout, so nothing is random but the batches
        train(model, tokenizer, training)
        convert(model, dtype)
        convert(model, torch.float32)  # measured as it will be read back
        measure(name, model, tokenizer, corpus)
        convert(model, dtype)
        save(model, HERE / name)


if __name__ == "__main__":
    main()
