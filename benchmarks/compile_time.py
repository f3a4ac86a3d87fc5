#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a translation unit that uses Tenon costs: CPU seconds, peak memory and object size for the umbrella include,
encoders of 6 and 60 blocks, 12 distinct blocks and 200 distinct layers (also with what are no templates compiled elsewhere,
as the CMake target tenon::compiled has it), beside <Eigen/Core> and <regex>, which Tenon does without, compiled in turn.

    python3 benchmarks/compile_time.py [--compiler g++] [--rounds 5] [--eigen /usr/include/eigen3] [--models]

--models: instead, a program that opens each released architecture, loads an adapter for it and attaches it.
Prints one line for each case: the minimum over the rounds (the machine's noise only adds), and the ratio to Eigen/Core.
"""
import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

BLOCK = """
template <std::int64_t D, std::int64_t Heads>
using Block = Graph<Inputs<"x">,
    Let<"heads", SelfAttention<"attention.self", D, Heads>, "x">,
    Let<"attended", Linear<"attention.output.dense", D, D>, "heads">,
    Let<"mid", AddNorm<"attention.output.LayerNorm", D>, "attended", "x">,
    Let<"fed", Sequential<Linear<"intermediate.dense", D, 4 * D>, Gelu, Linear<"output.dense", 4 * D, D>>, "mid">,
    Let<"y", AddNorm<"output.LayerNorm", D>, "fed", "mid">, Outputs<"y">>;
"""
USE = """
static_assert(slot_count<Net> == {slots});
static_assert(activation_bytes<Net>({{.tokens = 256}}) > 0);
const Program& program() {{ return program_of<Net>(); }}
"""
COMPILED = "#define TENON_COMPILED\n"  # as the CMake target tenon::compiled has it
HEAD = '#include <tenon/tenon.hpp>\nusing namespace tenon;\n'


def encoder(blocks):
    return HEAD + BLOCK + f'using Net = Scope<"encoder", Repeat<"layer", {blocks}, Block<384, 12>>>;' + USE.format(slots=6 * blocks)


def distinct_blocks(count):
    blocks = ", ".join(f'Scope<"b{i}", Sequential<Block<{64 * (i + 1)}, 4>, Linear<"to", {64 * (i + 1)}, {64 * (i + 2)}>>>'
                       for i in range(count))
    return HEAD + BLOCK + f"using Net = Sequential<{blocks}>;" + USE.format(slots=7 * count)


def distinct_layers(count):
    layers = ", ".join(f'Linear<"l{i}", {64 + i}, {65 + i}>' for i in range(count))
    return HEAD + f"using Net = Sequential<{layers}>;" + USE.format(slots=count)


CASES = [
    ("Eigen/Core alone", "#include <Eigen/Core>\n"),
    ("<regex> alone", "#include <regex>\n"),
    ("tenon/tenon.hpp alone", "#include <tenon/tenon.hpp>\n"),
    ("the same, rest apart", COMPILED + "#include <tenon/tenon.hpp>\n"),
    ("encoder of 6 blocks", encoder(6)),
    ("encoder of 60 blocks", encoder(60)),
    ("12 distinct blocks", distinct_blocks(12)),
    ("200 distinct layers", distinct_layers(200)),
    ("200, rest apart", COMPILED + distinct_layers(200)),
]

MODEL_USE = """
#include <tenon/models/{header}.hpp>
#include <tenon/tenon.hpp>
using namespace tenon;
using Net = models::{net};
std::int64_t use(const char* file, const char* adapter) {{
  const auto model = open<Net>(file);
  Session session(model);
  const auto tone = load_adapter<Net>(adapter);
  const auto guard = session.attach(tone);
  return session.activation_bytes() + slot_count<Net>;
}}
"""
NETS = [
    ("bert", "MiniLM"),
    ("llama", "Llama<models::llama3_8b>"),
    ("clip_text", "ClipTextModelWithProjection<models::clip_bigg_text>"),
    ("t5", "T5Encoder<models::t5_xxl>"),
    ("vit", "Vit<models::vit_base_16>"),
    ("sdxl_unet", "SdxlUnet<models::sdxl_base>"),
    ("flux", "Flux<models::flux_1>"),
    ("wan", "WanImageToVideo<models::wan21_i2v_14b>"),
    ("sd3", "StableDiffusion3<models::sd35_medium>"),
]
MODELS = [
    ("<Eigen/Core> alone", "#include <Eigen/Core>\n"),
    ("tenon_compiled.cpp, once", f'#include "{ROOT}/cmake/tenon_compiled.cpp"\n'),
    ("tenon_compiled_making.cpp, once", f'#include "{ROOT}/cmake/tenon_compiled_making.cpp"\n'),
    ("MiniLM, all in this source", MODEL_USE.format(header="bert", net="MiniLM")),
] + [(net, COMPILED + MODEL_USE.format(header=header, net=net)) for header, net in NETS]


def compile_once(command):
    """CPU seconds and peak MiB of one compiler run."""
    pid = os.fork()
    if pid == 0:
        code = subprocess.call(command)
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        with open(os.environ["TENON_USAGE"], "w") as out:
            out.write(f"{code} {usage.ru_utime + usage.ru_stime} {usage.ru_maxrss / 1024}")
        os._exit(0)
    os.waitpid(pid, 0)
    code, seconds, peak = pathlib.Path(os.environ["TENON_USAGE"]).read_text().split()
    if code != "0":
        sys.exit(f"compile_time: {' '.join(command)} failed")
    return float(seconds), float(peak)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--eigen", default="/usr/include/eigen3")
    parser.add_argument("--models", action="store_true")
    options = parser.parse_args()
    cases = MODELS if options.models else CASES
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TENON_USAGE"] = folder + "/usage"
        best = {}
        sizes = {}
        for _ in range(options.rounds):  # in turn, so that a slow minute falls on all of them
            for number, (name, source) in enumerate(cases):
                path = pathlib.Path(folder, f"case{number}.cpp")
                path.write_text(source)
                obj = path.with_suffix(".o")
                seconds, peak = compile_once([options.compiler, "-std=c++20", "-O2", f"-I{ROOT}/include", "-isystem",
                                              options.eigen, "-c", str(path), "-o", str(obj)])
                before = best.get(name, (seconds, peak))
                best[name] = (min(seconds, before[0]), min(peak, before[1]))
                sizes[name] = obj.stat().st_size / 1024
    reference = best[cases[0][0]][0]
    print(f"{options.compiler}, -O2, minimum of {options.rounds} rounds in turn")
    if options.models:
        print(f"{'net':52}{'CPU s':>8}{'vs Eigen':>10}{'peak MiB':>10}{'object kB':>11}")
        for name, _ in cases:
            seconds, peak = best[name]
            print(f"{name.replace('models::', ''):52}{seconds:8.2f}{seconds / reference:10.2f}{peak:10.0f}{sizes[name]:11.0f}")
        return
    print(f"{'case':24}{'CPU s':>8}{'vs Eigen':>10}{'above include':>15}{'peak MiB':>10}{'object kB':>11}")
    include = best["tenon/tenon.hpp alone"][0]
    for name, _ in cases:
        seconds, peak = best[name]
        print(f"{name:24}{seconds:8.2f}{seconds / reference:10.2f}{seconds - include:15.2f}{peak:10.0f}{sizes[name]:11.0f}")


if __name__ == "__main__":
    main()
