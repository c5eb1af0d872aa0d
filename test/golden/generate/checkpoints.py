"""Reads a case's weights, or draws them and writes them in the format that case.json names."""
import json

import torch
from safetensors.torch import load_file, save_file

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def weight_files(folder):
    return sorted([*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin")])


def has_weights(folder):
    return bool(weight_files(folder))


def read(folder):
    """All tensors by name, in f32."""
    weights = {}
    for path in weight_files(folder):
        is_bin = path.suffix == ".bin"
        weights |= torch.load(path, weights_only=True) if is_bin else load_file(path)
    return {name: tensor.float() for name, tensor in weights.items()}


def draw(adapter, folder, case, config):
    """Random weights of the seed, of sizes that keep activations and routing lively."""
    random = torch.Generator().manual_seed(case["seed"])
    dtype = DTYPES[case["weights"]["dtype"]]
    weights = {}
    for name, shape in adapter.shapes(config).items():
        values = torch.randn(shape, generator=random)
        if name.endswith("norm.weight"):
            values = 1 + 0.1 * values
        elif len(shape) == 2 and "embed_tokens" not in name:
            values *= (1.6 if "gate" in name else 1.1) / shape[1] ** 0.5
        weights[name] = values.to(dtype)
    if config.get("tie_word_embeddings"):
        weights.pop("lm_head.weight", None)
    return write(folder, weights, case["weights"]["format"])


def write(folder, weights, layout):
    is_bin = layout.startswith("bin")
    stem, ending = ("pytorch_model", "bin") if is_bin else ("model", "safetensors")

    def save(part, path):
        if not is_bin:
            save_file(part, path, metadata={"format": "pt"})
        else:
            torch.save(part, path, _use_new_zipfile_serialization=layout != "bin_legacy")

    if not layout.endswith("sharded"):
        save(as_views(weights) if layout == "bin_views" else weights, folder / f"{stem}.{ending}")
        return [f"{stem}.{ending}"]
    names = list(weights)
    halves = [names[: len(names) // 2], names[len(names) // 2:]]
    files = [f"{stem}-0000{k}-of-00002.{ending}" for k in (1, 2)]
    for part, file in zip(halves, files):
        save({name: weights[name] for name in part}, folder / file)
    size = sum(tensor.nbytes for tensor in weights.values())
    index = {"metadata": {"total_size": size},
             "weight_map": {name: file for part, file in zip(halves, files) for name in part}}
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps(index, indent=1))
    return [*files, f"{stem}.{ending}.index.json"]


def as_views(weights):
    """Every third matrix transposed in memory; q, k and v of a layer in one storage."""
    views = {}
    for k, (name, tensor) in enumerate(weights.items()):
        views[name] = tensor.T.contiguous().T if tensor.dim() == 2 and k % 3 == 0 else tensor
    for name in [name for name in weights if name.endswith("q_proj.weight")]:
        parts = [name.replace("q_proj", p) for p in ("q_proj", "k_proj", "v_proj")]
        joined = torch.cat([weights[part] for part in parts])
        views |= zip(parts, joined.split([len(weights[part]) for part in parts]))
    return views
