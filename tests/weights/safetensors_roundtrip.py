#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""safetensors_roundtrip.py TOOL: Tenon's reader and writer against the safetensors package (requirements.txt).

TOOL is safetensors_roundtrip_tool. Files that the package writes must come back from it byte for byte; files
laid out in other ways must come back as the package itself would have written them; what the package refuses
must be refused. Where Tenon is stricter on purpose, STRICTER says why.
"""
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy as np
from safetensors import SafetensorError, TensorSpec, deserialize, serialize

# safetensors' name, the name TensorSpec takes, bytes
DTYPES = [("F64", "float64", 8), ("F32", "float32", 4), ("F16", "float16", 2), ("BF16", "bfloat16", 2),
          ("F8_E4M3", "float8_e4m3fn", 1), ("F8_E5M2", "float8_e5m2", 1), ("I64", "int64", 8), ("I32", "int32", 4),
          ("I16", "int16", 2), ("I8", "int8", 1), ("U64", "uint64", 8), ("U32", "uint32", 4), ("U16", "uint16", 2),
          ("U8", "uint8", 1), ("BOOL", "bool", 1)]
TORCH_NAMES = {name: torch_name for name, torch_name, _ in DTYPES}
BYTES = {name: size for name, _, size in DTYPES}


def package_bytes(tensors, metadata=None):
    """The file that the package writes; `tensors`: name -> (dtype, shape, bytes)."""
    kept, specs = [], {}
    for name, (dtype, shape, data) in tensors.items():
        buffer = np.frombuffer(data, dtype=np.uint8) if data else np.zeros(1, dtype=np.uint8)
        kept.append(buffer)
        specs[name] = TensorSpec(dtype=TORCH_NAMES[dtype], shape=shape, data_ptr=buffer.ctypes.data, data_len=len(data))
    return bytes(serialize(specs, metadata=metadata))


def package_tensors(file):
    """What the package reads; None if it refuses the file."""
    try:
        return {name: (t["dtype"], list(t["shape"]), bytes(t["data"])) for name, t in deserialize(file)}
    except SafetensorError:
        return None


def metadata_of(file):
    (length,) = struct.unpack("<Q", file[:8])
    return json.loads(file[8:8 + length]).get("__metadata__")


def by_hand(header, data=b""):
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text)) + text + data


def entry(name="w", dtype='"F32"', shape="[1]", offsets="[0,4]", more=""):
    return f'"{name}":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}{more}}}'


class Tool:
    def __init__(self, program, folder):
        self.program, self.source, self.target = program, folder / "in.safetensors", folder / "out.safetensors"

    def rewrite(self, file):
        """The file that Tenon makes of `file`, or None and its sentence."""
        self.source.write_bytes(file)
        self.target.unlink(missing_ok=True)
        done = subprocess.run([self.program, self.source, self.target], capture_output=True, text=True, timeout=60)
        if done.returncode == 0:
            return self.target.read_bytes(), ""
        assert done.returncode == 1, f"the tool ended with {done.returncode}: {done.stderr}"
        assert not self.target.exists()
        return None, done.stderr.strip().removeprefix(f"{self.source}: ")


def random_tensors(rng, count):
    alphabet = list('abcxyz.0123_/\\"é€😀\n\x01 ')
    out = {}
    for _ in range(count):
        name = "".join(rng.choice(alphabet, size=rng.integers(0, 12)))
        dtype = DTYPES[rng.integers(len(DTYPES))][0]
        shape = [int(n) for n in rng.choice([0, 1, 1, 2, 3, 5], size=rng.integers(0, 9))]
        out[name] = (dtype, shape, rng.bytes(int(np.prod(shape, dtype=np.int64)) * BYTES[dtype]))
    return out


def check_written_by_package(tool, rng):
    """Every dtype, rank and kind of name; the file comes back byte for byte."""
    for case in range(150):
        tensors = random_tensors(rng, int(rng.integers(0, 20)))
        metadata = {f"k{i}\n\"": "v\\é" * i for i in range(int(rng.integers(1, 5)))} if case % 2 else None
        file = package_bytes(tensors, metadata)
        rewritten, sentence = tool.rewrite(file)
        assert rewritten == file, f"case {case}: {sentence or 'other bytes'}"
        assert package_tensors(rewritten) == tensors
    return 150


def check_laid_out_otherwise(tool, rng):
    """Tensors in any order, data off its alignment, a header with white space: read as well as the package
    reads it, and written as the package would have written it."""
    for case in range(100):
        tensors = random_tensors(rng, int(rng.integers(1, 12)))
        names = list(tensors)
        rng.shuffle(names)
        header, data = {}, b""
        for name in names:
            dtype, shape, content = tensors[name]
            header[name] = {"data_offsets": [len(data), len(data) + len(content)], "shape": shape, "dtype": dtype}
            data += content
        keys = list(header)
        rng.shuffle(keys)
        header = {"__metadata__": {"format": "pt"}} | {key: header[key] for key in keys}
        text = json.dumps(header, ensure_ascii=bool(case % 2), indent=case % 3) + " \n"[case % 2] * (case % 5)
        file = by_hand(text, data)
        assert package_tensors(file) == tensors, f"case {case}: the package reads another file"
        rewritten, sentence = tool.rewrite(file)
        assert rewritten == package_bytes(tensors, {"format": "pt"}), f"case {case}: {sentence or 'other bytes'}"
        assert metadata_of(rewritten) == {"format": "pt"}
    return 100


ACCEPTED = {
    "no tensors": by_hand("{}"),
    "metadata null": by_hand('{"__metadata__":null}'),
    "metadata empty": by_hand('{"__metadata__":{}}'),
    "white space behind": by_hand("{}\n\t\r "),
    "a name that is empty": by_hand("{" + entry("") + "}", b"1234"),
    "a zero-size tensor between": by_hand(
        "{" + entry("a") + "," + entry("b", shape="[0,3]", offsets="[4,4]") + "," + entry("c", offsets="[4,8]") + "}", b"12345678"),
    "an escaped name": by_hand("{" + entry("\\u00e9\\ud83d\\ude00") + "}", b"1234"),
    "a large extent beside a zero": by_hand("{" + entry(shape="[0,2305843009213693951]", offsets="[0,0]") + "}"),
}

REFUSED = {
    "no bytes for a length": b"1234567",
    "length 0": by_hand(""),
    "length beyond the file": struct.pack("<Q", 100) + b"{}",
    "length beyond 100 MB": struct.pack("<Q", 100_000_001) + b"{}",
    "length of 2^64 - 1": b"\xff" * 8 + b"{}",
    "an array": by_hand("[]"),
    "not JSON": by_hand("{w}"),
    "bytes behind the JSON": by_hand("{}x"),
    "a zero byte behind the JSON": by_hand("{}\0"),
    "a byte order mark": by_hand(b"\xef\xbb\xbf{}"),
    "broken UTF-8": by_hand(b'{"\xff":1}'),
    "a lone surrogate": by_hand("{" + entry("\\ud83d") + "}", b"1234"),
    "a control character": by_hand("{" + entry("a\nb") + "}", b"1234"),
    "a leading zero": by_hand("{" + entry(shape="[01]") + "}", b"1234"),
    "a comma too many": by_hand("{" + entry() + ",}", b"1234"),
    "an entry that is a number": by_hand('{"w":3}'),
    "no dtype": by_hand('{"w":{"shape":[1],"data_offsets":[0,4]}}', b"1234"),
    "no shape": by_hand('{"w":{"dtype":"F32","data_offsets":[0,4]}}', b"1234"),
    "no data_offsets": by_hand('{"w":{"dtype":"F32","shape":[1]}}', b"1234"),
    "dtype twice": by_hand("{" + entry(more=',"dtype":"F32"') + "}", b"1234"),
    "metadata twice": by_hand('{"__metadata__":{},"__metadata__":{}}'),
    "metadata not of strings": by_hand('{"__metadata__":{"rank":8}}'),
    "metadata an array": by_hand('{"__metadata__":["a"]}'),
    "an unknown dtype": by_hand("{" + entry(dtype='"F33"') + "}", b"1234"),
    "a dtype in lower case": by_hand("{" + entry(dtype='"f32"') + "}", b"1234"),
    "a negative extent": by_hand("{" + entry(shape="[-1]") + "}", b"1234"),
    "minus zero": by_hand("{" + entry(offsets="[-0,4]") + "}", b"1234"),
    "a fractional extent": by_hand("{" + entry(shape="[1.0]") + "}", b"1234"),
    "an extent with exponent": by_hand("{" + entry(shape="[1e0]") + "}", b"1234"),
    "an extent beyond 64 bits": by_hand("{" + entry(shape="[18446744073709551616]", offsets="[0,0]") + "}"),
    "elements beyond 64 bits": by_hand("{" + entry(shape="[4294967296,4294967296]", offsets="[0,0]") + "}"),
    "bytes beyond 64 bits": by_hand("{" + entry(shape="[4611686018427387904]", offsets="[0,0]") + "}"),
    "three offsets": by_hand("{" + entry(offsets="[0,4,4]") + "}", b"1234"),
    "end before begin": by_hand("{" + entry(offsets="[4,0]") + "}", b"1234"),
    "fewer bytes than the shape": by_hand("{" + entry(shape="[2]") + "}", b"1234"),
    "more bytes than the shape": by_hand("{" + entry(offsets="[0,8]") + "}", b"12345678"),
    "an overlap": by_hand("{" + entry("a") + "," + entry("b", offsets="[2,6]") + "}", b"123456"),
    "the same place twice": by_hand("{" + entry("a") + "," + entry("b") + "}", b"1234"),
    "a hole": by_hand("{" + entry("a") + "," + entry("b", offsets="[5,9]") + "}", b"123456789"),
    "a hole before the first": by_hand("{" + entry(offsets="[1,5]") + "}", b"12345"),
    "a zero-size tensor inside another": by_hand(
        "{" + entry("a") + "," + entry("b", shape="[0]", offsets="[2,2]") + "}", b"1234"),
    "a zero-size tensor beyond the end": by_hand(
        "{" + entry("a") + "," + entry("b", shape="[0]", offsets="[9,9]") + "}", b"1234"),
    "data that ends early": by_hand("{" + entry() + "}", b"123"),
    "data that no tensor covers": by_hand("{" + entry() + "}", b"12345"),
}

# Files that the package reads and Tenon refuses: the beginning of Tenon's sentence, and the reason.
STRICTER = {
    "a name twice": (by_hand("{" + entry() + "," + entry() + "}", b"1234"), 'byte 62: expected each key once, got "w" again',
                     "readers differ in which of the two they take"),
    "a name twice, once escaped": (by_hand("{" + entry("a") + "," + entry("\\u0061") + "}", b"1234"),
                                   'byte 62: expected each key once, got "a" again', "as above"),
    "a metadata key twice": (by_hand('{"__metadata__":{"a":"1","a":"2"}}'), 'byte 33: expected each key once, got "a" again',
                             "as above; the rank or alpha of an adapter may be in it"),
    "an unknown member": (by_hand("{" + entry(more=',"scale":2') + "}", b"1234"),
                          'w: expected no members but dtype, shape and data_offsets, got "scale"',
                          "it may change what the bytes mean"),
    "white space in front": (by_hand(" {" + entry() + "}", b"1234"), "expected a header that begins with '{', got byte 0x20",
                             "the format's own description asks for '{'"),
    "an entry that is an array": (by_hand('{"w":["F32",[1],[0,4]]}', b"1234"),
                                  "w: expected an object of dtype, shape and data_offsets, got an array of 3",
                                  "an accident of the package's JSON library, in no description"),
    "a dtype that is an object": (by_hand("{" + entry(dtype='{"F32":null}') + "}", b"1234"), "w: expected a dtype of F64, ",
                                  "as above"),
    "nine dimensions": (by_hand("{" + entry(shape="[1,1,1,1,1,1,1,1,1]") + "}", b"1234"),
                        "w: expected at most 8 dimensions, got 9", "a TensorView has room for eight"),
    "an overflow hidden by a zero": (by_hand("{" + entry(shape="[0,9223372036854775807,4]", offsets="[0,0]") + "}"),
                                     "w: expected a shape of less than 2^63 bytes, got ", "its strides do not fit 64 bits"),
    "an extent of 2^63": (by_hand("{" + entry(shape="[0,9223372036854775808]", offsets="[0,0]") + "}"),
                          "w: expected a shape of whole numbers from 0 to 2^63 - 1, got ", "extents are signed in Tenon"),
    "65 levels in an unknown member": (by_hand("{" + entry(more=',"x":' + "[" * 63 + "]" * 63) + "}", b"1234"),
                                       "byte 127: expected at most 64 levels, got '['", "a bound on the stack"),
}
for rare in ("F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C64"):
    bits = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "C64": 64}.get(rare, 8)
    STRICTER[rare] = (by_hand("{" + entry(dtype=f'"{rare}"', shape="[4]", offsets=f"[0,{bits // 2}]") + "}", bytes(bits // 2)),
                      "w: expected a dtype of F64, ", "Tenon has no such dtype")


def check_verdicts(tool):
    for name, file in ACCEPTED.items():
        read = package_tensors(file)
        rewritten, sentence = tool.rewrite(file)
        assert read is not None, f"the package refuses {name}"
        assert rewritten is not None, f"Tenon refuses {name}: {sentence}"
        assert package_tensors(rewritten) == read, f"{name}: other tensors"
    for name, file in REFUSED.items():
        assert package_tensors(file) is None, f"the package takes {name}"
        assert tool.rewrite(file)[0] is None, f"Tenon takes {name}"
    for name, (file, expected, _) in STRICTER.items():
        assert package_tensors(file) is not None, f"the package refuses {name} too: move it to REFUSED"
        rewritten, sentence = tool.rewrite(file)
        assert rewritten is None and sentence.startswith(expected), f"{name}: {sentence or 'taken'}"
    return len(ACCEPTED) + len(REFUSED) + len(STRICTER)


def check_mutations(tool, rng):
    """A byte changed or a piece cut anywhere in a header: never is a file taken that the package refuses."""
    stricter = 0
    base = package_bytes({"a": ("F32", [2], b"12345678"), "b.c": ("U8", [], b"x")}, {"format": "pt"})
    (length,) = struct.unpack("<Q", base[:8])
    for _ in range(600):
        header, at = bytearray(base[8:8 + length]), int(rng.integers(length))
        if rng.integers(2):
            header[at] = int(rng.choice(list(b'0123456789"{}[],:\\ abF-.')))
        else:
            del header[at:at + int(rng.integers(1, 4))]
        file = by_hand(bytes(header), base[8 + length:])
        read, (rewritten, sentence) = package_tensors(file), tool.rewrite(file)
        if read is None:
            assert rewritten is None, f"Tenon takes {bytes(header)}"
        elif rewritten is None:
            stricter += 1
            assert "each key once" in sentence or "no members but" in sentence or "begins with" in sentence, f"{header}: {sentence}"
        else:
            assert package_tensors(rewritten) == read, f"{bytes(header)}: other tensors"
    return 600, stricter


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    rng = np.random.default_rng(7)
    with tempfile.TemporaryDirectory() as folder:
        tool = Tool(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(folder))
        print(check_written_by_package(tool, rng), "files of the package came back byte for byte")
        print(check_laid_out_otherwise(tool, rng), "files laid out otherwise came back as the package writes them")
        print(check_verdicts(tool), "files judged as listed,", len(STRICTER), "of them more strictly than the package")
        print("%d mutated headers, %d of them judged more strictly" % check_mutations(tool, rng))


if __name__ == "__main__":
    main()
