"""The model card of a finished run, and the upload of the model with it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from activeselect.config import RunConfig, differences, to_plain
from activeselect.errors import StoreError
from activeselect.files import write_text
from activeselect.study.tables import MEASURES, escaped

if TYPE_CHECKING:
    from activeselect.study.opened import OpenedRun

_LONGEST_CAUSE = 300
_COSTS = {
    "train_s": "seconds of training",
    "score_s": "seconds of scoring",
    "select_s": "seconds of selecting",
    "tokens_trained": "tokens trained on",
    "tokens_generated": "tokens sampled for scoring",
}


def model_card(run: OpenedRun) -> str:
    """The run as a model card in Markdown: data, selection, scores, cost, how to repeat it.

    The card holds settings and numbers, no text of the data. Of a path on this machine it keeps
    the last part only.

    Args:
        run: of :func:`activeselect.open_run`.

    Returns:
        The text of ``README.md``, with metadata that the hub reads.
    """
    config = _public(dict(run.result["config"]))
    data, last = config["data"], run.result["curve"][-1]
    parts = [
        f"---\n{yaml.safe_dump(_metadata(run, config), sort_keys=False)}---",
        f"# {_name(config['model'])}, fine-tuned on selected examples",
        f"This model is `{config['model']}`, fine-tuned on `{data['source']}` with activeselect. "
        f"The strategy `{run.name}` selected {last['budget']:,} training examples. Check the "
        "licences of the base model and of the data before you pass it on.",
        "## Data",
        _data(run, data),
        "## Selection",
        f"Strategy: `{_flow(config['strategy'])}`. One row per stage of the run.",
        _table(
            ("examples", "samples seen", "test accuracy", "test problems"),
            [
                (
                    f"{entry['budget']:,}",
                    f"{entry.get('samples_seen', 0):,}",
                    _number(entry["test_accuracy"]),
                    f"{entry.get('test_examples') or 0:,}",
                )
                for entry in run.result["curve"]
            ],
        ),
        "Examples in the last train set, by group:",
        _table(
            ("group", "examples"),
            [(escaped(group or "all"), f"{n:,}") for group, n in sorted(last["groups"].items())],
        ),
        "## Scores",
        _scores(run),
        "## Cost",
        _table(
            ("of the whole run", ""),
            [
                (words, f"{run.result['cost'][key]:,.0f}")
                for key, words in _COSTS.items()
                if key in run.result["cost"]
            ],
        ),
        "## How to repeat it",
        "Save the settings as `run.yaml`, put your paths in, then run "
        "`activeselect train --config run.yaml --out run`.",
        f"```yaml\n{yaml.safe_dump({'config': _stated(config)}, sort_keys=False)}```",
        "Versions: "
        + ", ".join(f"{k} {v}" for k, v in (run.result.get("environment") or {}).items())
        + f". Content hash of the run: `{run.result.get('content_hash', 'not recorded')}`.",
    ]
    return "\n\n".join(parts) + "\n"


def push_to_hub(
    run: OpenedRun, repo_id: str, *, private: bool = True, token: str | None = None, api: Any = None
) -> str:
    """Upload the model of a finished run with its model card.

    Args:
        run: of :func:`activeselect.open_run`; it must have kept its model.
        repo_id: ``user/name`` on the hub; the repository is created if it is absent.
        private: whether a new repository is private.
        token: of the hub; default: the one that ``hf auth login`` saved.
        api: a ``huggingface_hub.HfApi``; default: a new one.

    Returns:
        The address of the upload.

    Raises:
        StoreError: if the run kept no model (``save_model: false``), or the hub refuses it.
    """
    model = run.path / "model"
    if not (model / "config.json").is_file() and not (model / "adapter_config.json").is_file():
        raise StoreError(
            f"{model}: expected the fine-tuned model; received no folder with config.json. Train "
            "with `save_model: true`."
        )
    if api is None:
        from huggingface_hub import HfApi

        api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        for file in model.iterdir():
            if file.is_file():
                shutil.copy(file, folder)
        write_text(Path(folder) / "README.md", model_card(run))
        try:
            api.create_repo(repo_id, repo_type="model", private=private, exist_ok=True)
            return str(
                api.upload_folder(
                    repo_id=repo_id,
                    folder_path=folder,
                    repo_type="model",
                    commit_message=f"Upload a model trained on examples selected by {run.name}",
                )
            )
        except Exception as error:  # the hub client raises many kinds, each with a long text
            cause = " ".join(str(error).split())[:_LONGEST_CAUSE] or type(error).__name__
            raise StoreError(
                f"The hub did not take {repo_id} ({cause}). Check the connection, the name, and "
                "the token (`hf auth login`); nothing of the run was changed."
            ) from error


def _metadata(run: OpenedRun, config: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["activeselect", "data-selection", run.name],
    }
    model, source = str(run.result["config"]["model"]), str(run.result["config"]["data"]["source"])
    if _on_hub(model):
        found["base_model"] = model
    if _on_hub(source):
        found["datasets"] = [source]
    accuracy = run.result["curve"][-1]["test_accuracy"]
    if accuracy is not None:
        metric = {"type": "accuracy", "name": "test accuracy", "value": round(accuracy, 4)}
        result = {
            "task": {"type": "text-generation"},
            "dataset": {"type": config["data"]["source"], "name": config["data"]["source"]},
            "metrics": [metric],
        }
        found["model-index"] = [{"name": _name(config["model"]), "results": [result]}]
    return found


def _on_hub(name: str) -> bool:
    """Whether a name is ``user/name``; a path has more parts, or lies on this machine."""
    return name.count("/") == 1 and not name.startswith(("/", ".", "~")) and not Path(name).exists()


def _name(path: Any) -> str:
    return Path(str(path)).name


def _public(value: Any) -> Any:
    """The settings without the folders of this machine."""
    if isinstance(value, Mapping):
        return {key: _public(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_public(item) for item in value]
    if isinstance(value, str) and (Path(value).is_absolute() or value.startswith("~")):
        return Path(value).name
    return value


def _stated(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from the defaults, so that the card stays short."""
    standard = to_plain(RunConfig())
    return {
        key: value
        for key, value in config.items()
        if key in ("model", "data", "strategy", "seed")
        or key not in standard
        or differences({key: standard[key]}, {key: value})
    }


def _data(run: OpenedRun, data: Mapping[str, Any]) -> str:
    left_out = run.result.get("data") or {}
    lines = [f"- source: `{data['source']}`"]
    lines += [
        f"- {name.replace('_', ' ')}: `{data[name]}`"
        for name in ("subset", "revision", "limit", "pool_size")
        if data.get(name) is not None
    ]
    lines.append(f"- fingerprint of the pool: `{run.result.get('pool_fingerprint', 'unknown')}`")
    lines += [f"- {escaped(str(key))}: {escaped(str(value))}" for key, value in left_out.items()]
    return "\n".join(lines)


def _scores(run: OpenedRun) -> str:
    rows = [row for row in run.plot.understood() if row.get("kind") != "candidates"]
    if not rows:
        return "The run scored nothing."
    number = max(row["round"] for row in rows)
    last = [row for row in rows if row["round"] == number]
    scored = sum(row["scored"] for row in last)
    lines = []
    for key, words in MEASURES.items():
        known = [row for row in last if row.get(key) is not None]
        if known:
            total = sum(row["scored"] for row in known)
            lines.append((words, f"{sum(row[key] * row['scored'] for row in known) / total:.3f}"))
    head = f"Means over the {scored:,} training examples that the last round scored."
    return f"{head}\n\n{_table(('measure', 'mean'), lines)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.strip().removesuffix("\n...")


def _number(value: float | None) -> str:
    return "not tested" if value is None else f"{value:.3f}"
