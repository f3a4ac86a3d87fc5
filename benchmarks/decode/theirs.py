# SPDX-License-Identifier: Apache-2.0
# The half of torch and transformers: the questions of ours.cpp but for `read`, answered the same way.
#   theirs.py FOLDER auto|float32        computes in the dtype of the file, or in float32
# It calls the model itself: model.generate takes longer, with what it looks after at each token.
import os
import pathlib
import sys
import time
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "peers"))
from memory import resident_kilobytes


class Theirs:
    def __init__(self, folder, dtype):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    def threads(self, count):
        torch.set_num_threads(int(count))
        return "yes"

    def decode(self, count, *prompt):
        made = self.model(torch.tensor([[int(id_) for id_ in prompt]]), use_cache=True, logits_to_keep=1)
        tokens = [made.logits[:, -1].argmax(-1, keepdim=True)]
        start = time.perf_counter()
        for _ in range(int(count)):
            made = self.model(tokens[-1], past_key_values=made.past_key_values, use_cache=True)
            tokens.append(made.logits[:, -1].argmax(-1, keepdim=True))
        taken = time.perf_counter() - start
        return " ".join([str(taken), *(str(token.item()) for token in tokens)])


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    with torch.inference_mode():
        theirs = Theirs(*sys.argv[1:3])
        for line in sys.stdin:
            question, *arguments = line.split()
            print(question, getattr(theirs, question)(*arguments), resident_kilobytes(), flush=True)


main()
