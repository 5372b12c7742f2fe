"""Inputs of a run or study: the files on this machine that it reads, and whether they changed.

Asked at every start, so it has to be cheap: a file whose size and times are those that were noted
is not read; any other is read once and its checksum compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from activeselect.config import BUILT_IN_MODEL, NO_TEST, PRESET_TARGET, DataConfig
from activeselect.data.skills import base_path
from activeselect.errors import ModelError
from activeselect.files import read_object
from activeselect.seals import checksum

#: File below the source -> [bytes, modified (ns), changed (ns), SHA-256].
Snapshot = dict[str, list[int | str]]


def snapshot(source: str, known: Mapping[str, list[int | str]] | None = None) -> Snapshot:
    """What the files behind a path are now; empty where it is none of this machine.

    Args:
        source: a file or folder, or a hub id.
        known: an earlier snapshot; a file with the same size and times keeps its checksum unread.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "train.jsonl")
        >>> _ = file.write_text("{}")
        >>> before = snapshot(str(file))
        >>> _ = file.write_text("[]")
        >>> changed(before, snapshot(str(file), before))
        ['train.jsonl']
    """
    found: Snapshot = {}
    root = Path(source).expanduser()
    for file in _files(root):
        name = file.name if file == root else file.relative_to(root).as_posix()
        facts = file.stat()
        now = [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
        before = (known or {}).get(name)
        same = before is not None and list(before[:3]) == now
        found[name] = [*now, before[3] if same and before else checksum(file)]
    return found


def changed(before: Mapping[str, list[int | str]], now: Mapping[str, list[int | str]]) -> list[str]:
    """Names of the files whose content is another, that are gone, or that are new."""
    names = sorted(before.keys() | now.keys())
    return [n for n in names if n not in before or n not in now or before[n][3] != now[n][3]]


def sources_of(data: DataConfig) -> dict[str, str]:
    """What a dataset's train, test and target set are read from; nothing for a generated one."""
    target = {} if data.target in (None, PRESET_TARGET) else {"target": str(data.target)}
    if data.preset is not None:
        return target
    test = {} if data.test in (None, NO_TEST) else {"test": str(data.test)}
    return {"train": data.source, **test, **target}


def model_source(model: str) -> str:
    """The folder or hub id behind a model's name."""
    return str(base_path()) if model == BUILT_IN_MODEL else model


def snapshot_model(model: str, known: Mapping[str, list[int | str]] | None = None) -> Snapshot:
    """As :func:`snapshot`, of a model; of adapters with the base model that they belong to.

    Example:
        >>> sorted(snapshot_model("skills-base"))[0]
        'config.json'
    """
    folder = Path(model_source(model)).expanduser()
    found = snapshot(str(folder), known)
    base = base_of(folder)
    if base is not None:
        earlier = {
            name[len(_BASE) :]: v for name, v in (known or {}).items() if name.startswith(_BASE)
        }
        found |= {_BASE + name: v for name, v in snapshot_model(base, earlier).items()}
    return found


#: Before the names of a base model's files.
_BASE = "base/"
#: What says which model adapters belong to.
ADAPTER_FILE = "adapter_config.json"


def base_of(folder: Path) -> str | None:
    """The model that the adapters in a folder belong to, or None where it holds no adapters."""
    file = folder / ADAPTER_FILE
    if not file.is_file():
        return None
    base = read_object(file).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelError(f"{file} names no base model (base_model_name_or_path); restore it.")
    return base


#: Of a model's folder; what else lies there says nothing about its answers.
_OF_MODELS = (".json", ".safetensors", ".model", ".txt", ".jinja", ".tiktoken")


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    if not root.is_dir():
        return []
    below = (file for file in root.rglob("*") if file.is_file())
    if any((root / name).is_file() for name in ("config.json", ADAPTER_FILE)):
        below = (file for file in root.glob("*") if file.suffix in _OF_MODELS)
    return sorted(f for f in below if not any(p.startswith(".") for p in f.relative_to(root).parts))
