"""Segue: continue the pretraining of speech-generation models on many GPUs."""

from pathlib import Path

from setuptools import find_packages, setup

# torchaudio 2.11 is the last release and imports only beside a torch of the same minor version.
REQUIRES = [
    "torch>=2.11,<2.12",  # the models and torch.distributed
    "torchaudio>=2.11,<2.12",  # MFCC and mel features
    "psutil>=5.9,<8",  # the processes that a launcher passes signals on to
    "accelerate>=1.15,<1.16",  # launching and the DeepSpeed hand-over
    "deepspeed>=0.19.8,<0.20",  # ZeRO
    "transformers>=4.50,<6",  # accelerate builds no DeepSpeed plugin without it
    "webdataset>=0.2.100,<2",  # the shard format and the stream's stages
    "tensorboard>=2.15,<3",  # curves
    "numpy>=2,<3",  # the plan's arithmetic
    "pyarrow>=16,<27",  # the memory-mapped index
    "soundfile>=0.13,<0.15",  # decodes and encodes WAV, FLAC, MP3, OGG
    "soxr>=0.5,<2",  # resampling
    "scikit-learn>=1.4,<2",  # k-means for semantic units
    "scipy>=1.11,<2",  # K-weighting for loudness
    "num2words>=0.5.14,<0.6",  # numbers in words
    "cn2an>=0.5.24,<0.6",  # numbers in Chinese, which num2words lacks
    "safetensors>=0.5,<1",  # checkpoint files without pickle
    "xxhash>=3.4,<5",  # fast checksums
    "fsspec>=2024.6",  # shards behind URLs
    "omegaconf>=2.3,<2.5",  # YAML with interpolation and key=value overrides
    "pydantic>=2.7,<3",  # validated configuration
    "packaging>=23",  # versions that fit, for `segue doctor`
    "typer>=0.15,<1",  # the command line
    "rich>=13,<16",  # tables and messages
]
REMOTE = [
    "aiohttp>=3.9,<4",  # http:// and https:// shards
    "s3fs>=2024.6",  # s3:// shards
]
CLEAN = [
    "noisereduce>=3.0.3,<4",  # clean.denoise: spectral gating
    "pyloudnorm>=0.2,<0.3",  # clean.loudness: ITU-R BS.1770
]
ESPEAK = ["espeakng-loader>=0.2.4,<0.3"]  # GPL-3.0; only speech synthesis and phonemes import it
GPU = ["nvidia-ml-py>=12"]  # how busy and hot GPUs are, beside a run's curves
F0 = ["pyworld-prebuilt>=0.3.6,<0.4"]  # f0.pyworld: pyworld in wheels; MIT, needs numpy only

setup(
    name="segue-speech",
    version="0.1.0",
    description="Distributed multi-GPU pretraining of speech-generation models",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",  # PYTHONSAFEPATH keeps jobs to their copy of the code
    # Names the root as the packages' home: an editable install then puts it on the path itself,
    # where our packages win over the folders of the same names in tests/.
    package_dir={"": "."},
    packages=find_packages(include=["launch*", "pretrain*", "shards*", "slurm*", "configs*"]),
    package_data={
        "configs": ["*.yaml", "accelerate/*.yaml"],
        "slurm": ["*.sh"],
        "shards.sources": ["*.json"],
    },
    install_requires=REQUIRES,
    extras_require={
        "espeak": ESPEAK,
        "remote": REMOTE,
        "clean": CLEAN,
        "f0": F0,
        "gpu": GPU,
        "test": [
            *ESPEAK,
            *REMOTE,
            *CLEAN,
            *F0,
            "moto[server]>=5,<6",  # a real S3 server for the tests
            "pytest>=8,<10",
            "hypothesis>=6.100,<7",
            "ruff>=0.6,<1",
            "mypy>=1.11,<3",
        ],
        "bench": ["py-cpuinfo>=9,<10"],  # names the processor beside a figure
    },
    entry_points={"console_scripts": ["segue = launch.main:main"]},
)
