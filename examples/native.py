"""The native runtime from Python, without gsvexport; see docs/native.md.

python examples/native.py libgsv.so FOLDER "HH AH0 L OW1 ." | aplay -f S16_LE -r 32000
"""

import ctypes
import sys
from ctypes import POINTER, byref, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p


class SayOptions(ctypes.Structure):
    """gsv_say_options."""

    _fields_ = [
        ("size", c_size_t),
        ("seed", c_uint64),
        ("sentence", c_uint32),
        *((name, c_int32) for name in ("greedy", "top_k")),
        *((name, c_double) for name in ("top_p", "temperature", "repetition_penalty", "noise_scale", "speed")),
        *((name, c_int32) for name in ("max_tokens", "no_prompt")),
        ("bert", c_void_p),
        ("window", c_double),
        ("ahead", c_int32),
    ]


SINK = ctypes.CFUNCTYPE(c_int, c_void_p, POINTER(c_float), c_size_t)


class Voice:
    """An open voice. What goes wrong is a RuntimeError with the text of the library."""

    def __init__(self, library: str, folder: str) -> None:
        self._gsv, self._voice = ctypes.CDLL(library), c_void_p()
        self._call("gsv_open", folder.encode(), None, byref(self._voice))

    def _call(self, name: str, *arguments: object) -> None:
        error = ctypes.create_string_buffer(2048)
        if status := getattr(self._gsv, name)(*arguments, error, c_size_t(2048)):
            raise RuntimeError(f"{name}: {error.value.decode()} (status {status})")

    def phones(self, text: str) -> "ctypes.Array[c_int64]":
        """The ids of phones between spaces, by name or number."""
        ids, count = (c_int64 * len(text))(), c_size_t()
        self._call("gsv_phones", self._voice, text.encode(), ids, c_size_t(len(text)), byref(count))
        return (c_int64 * count.value)(*ids[: count.value])

    def _options(self, how: dict[str, float]) -> SayOptions:
        options = SayOptions()
        self._gsv.gsv_say_options_init(byref(options))
        for name, value in how.items():
            setattr(options, name, value)
        return options

    def say(self, ids: "ctypes.Array[c_int64]", sink, **how: float) -> None:
        """`sink` is given lists of samples as they come; a value that is not 0 ends the sentence."""
        handed = SINK(lambda _, samples, count: sink(samples[:count]) or 0)
        self._call("gsv_say", self._voice, ids, c_size_t(len(ids)), byref(self._options(how)), handed, None, None)

    def tokens(self, ids: "ctypes.Array[c_int64]", **how: float) -> list[int]:
        """The codes of a sentence; `how` are members of gsv_say_options."""
        codes, found = (c_int64 * 4096)(), c_size_t()
        options = byref(self._options(how))
        self._call("gsv_tokens", self._voice, ids, c_size_t(len(ids)), options, codes, c_size_t(4096), byref(found))
        return codes[: found.value]

    def close(self) -> None:
        """Free everything."""
        self._gsv.gsv_close(self._voice)
        self._voice = c_void_p()


if __name__ == "__main__":
    import array

    voice = Voice(*sys.argv[1:3])
    heard: list[float] = []
    voice.say(voice.phones(sys.argv[3]), heard.extend, seed=1)
    voice.close()
    array.array("h", [round(32767 * max(-1.0, min(1.0, one))) for one in heard]).tofile(sys.stdout.buffer)
