"""What GPUs could compute at most."""

from __future__ import annotations

import re

# Dense bf16 with float32 sums, in TFLOP/s, from the makers' data sheets; V100 and T4 have fp16
# only. The first pattern that is found in torch.cuda.get_device_name counts.
_PEAKS = (
    (r"Laptop|Max-Q", None),
    (r"\bMIG\b", None),  # a part of a GPU
    (r"GB200", 2500.0),
    (r"B200", 2250.0),
    (r"B100", 1750.0),
    (r"(H200|H100) NVL", 835.5),
    (r"H200|GH200", 989.4),
    (r"H100 PCIe|H800 PCIe", 756.0),
    (r"H100|H800", 989.4),
    (r"\bH20\b", 148.0),
    (r"A100|A800", 312.0),
    (r"\bA40\b", 149.7),
    (r"\bA30\b", 165.0),
    (r"\bA10G\b", 70.0),
    (r"\bA10\b", 125.0),
    (r"L40S", 362.0),
    (r"\bL40\b", 181.0),
    (r"\bL4\b", 121.0),
    (r"RTX 6000 Ada", 364.2),
    (r"RTX A6000", 154.8),
    (r"RTX 5090", 209.5),
    (r"RTX 4090 D", 147.0),
    (r"RTX 4090", 165.2),
    (r"RTX 4080 SUPER", 104.4),
    (r"RTX 4080", 97.5),
    (r"RTX 3090 Ti", 80.0),
    (r"RTX 3090", 71.0),
    (r"RTX 3080 Ti", 68.2),
    (r"V100-(SXM2|SXM3)", 125.0),
    (r"V100", 112.0),
    (r"\bT4\b", 65.0),
    (r"MI325X|MI300X", 1307.4),
    (r"MI250X", 383.0),
)


def peak_flops(device_name: str) -> float | None:
    """FLOP/s of a GPU by torch's name of it, None where it is not known here."""
    for pattern, tera in _PEAKS:
        if re.search(pattern, device_name):
            return tera * 1e12 if tera else None
    return None
