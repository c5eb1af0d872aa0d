"""The authors' models: built from a config.json, run, and what their modules return recorded."""
import contextlib
import importlib
import pathlib
import sys
import types

import torch


@contextlib.contextmanager
def precision(double):
    """With `double`, every mention of float32 in the authors' code means float64."""
    if not double:
        yield
        return
    kept = [(torch, "float32", torch.float32), (torch, "float", torch.float),
            (torch.Tensor, "float", torch.Tensor.float), (torch.nn.Module, "float",
                                                          torch.nn.Module.float)]
    torch.set_default_dtype(torch.float64)
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float, torch.nn.Module.float = torch.Tensor.double, torch.nn.Module.double
    try:
        yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)
        torch.set_default_dtype(torch.float32)


def gap(scores, k):
    """Rank k minus rank k + 1."""
    if k == scores.shape[-1]:
        return torch.full(scores.shape[:-1], torch.inf)
    best = scores.topk(k + 1).values
    return best[..., k - 1] - best[..., k]


class Adapter:
    """What the families share."""

    def moe_layers(self, config):
        """The decoder layers that have experts."""
        model = self.build(config)
        return [i for i, layer in enumerate(model.model.layers) if self.records(model, layer)]

    def shapes(self, config):
        model = self.build(config)
        return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}

    def model(self, config, weights):
        model = self.build(config)
        missing, _ = model.load_state_dict(weights, strict=False)
        if config.get("tie_word_embeddings"):
            model.lm_head.weight = model.model.embed_tokens.weight
            missing = [name for name in missing if name != "lm_head.weight"]
        if missing:
            sys.exit(f"weights are missing: {missing}")
        return model.to(torch.get_default_dtype()).eval()

    def forward(self, model, ids, mask, positions, cache):
        recorded = {"layers": [], "blocks": []}
        hooks = [layer.register_forward_hook(lambda m, i, out: recorded["layers"].append(first(out)))
                 for layer in model.model.layers]
        for layer in model.model.layers:
            for block, record in self.records(model, layer):
                hooks.append(block.register_forward_hook(
                    lambda m, i, out, record=record: record(recorded["blocks"], m, out)))
        embedded = []
        hooks.append(model.model.embed_tokens.register_forward_hook(
            lambda m, i, out: embedded.append(out)))
        hooks.append(model.model.norm.register_forward_hook(
            lambda m, i, out: recorded.update(final=out)))
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions,
                    past_key_values=cache, use_cache=True)
        for hook in hooks:
            hook.remove()
        B, T = ids.shape
        blocks = recorded["blocks"]
        per_layer = lambda name: torch.stack([b[name].view(B, T, -1) for b in blocks])
        return {
            "logits": out.logits,
            "cache": out.past_key_values,
            "hidden_states": torch.stack(embedded + recorded["layers"]),
            "final_hidden": recorded["final"],
            **{name: per_layer(name)
               for name in ["moe_output", "router_logits", "topk_indices", "topk_weights"]},
            "router_gap": per_layer("router_gap")[..., 0],
        }


def first(out):
    """The hidden state of what a module returns."""
    while isinstance(out, tuple):
        out = out[0]
    return out


class MoePlusPlus(Adapter):
    """SkyworkAI/MoE-plus-plus. Of transformers its model needs the names below alone."""

    def __init__(self, code):
        stub_transformers()
        package = types.ModuleType("authors")
        package.__path__ = [str(pathlib.Path(code))]
        sys.modules["authors"] = package
        self.code = importlib.import_module("authors.modeling_moe_plus_plus")

    def build(self, config):
        # The authors' attention prints a line when positions are scaled.
        with contextlib.redirect_stdout(None):
            return self.code.MoeForCausalLM(self.code.MoeConfig(**config))

    def records(self, model, layer):
        def router(blocks, module, out):
            chosen, logits = out
            tokens = logits.shape[0]
            indices = torch.zeros(tokens, 2, dtype=torch.long)
            weights = torch.zeros(tokens, 2, dtype=logits.dtype)
            count = torch.zeros(tokens, dtype=torch.long)
            for expert, (rows, shares) in chosen.items():
                indices[rows, count[rows]] = expert
                weights[rows, count[rows]] = shares
                count[rows] += 1
            order = logits.gather(1, indices).argsort(1, descending=True)
            # Probabilities, after the normalisation that the model has.
            scale = module.moe_gate_norm_std / logits.std(1, keepdim=True)
            z = logits * scale if module.moe_use_logits_norm else logits
            # A later layer adds to the logits in place.
            blocks.append({"router_logits": logits.clone(),
                           "topk_indices": indices.gather(1, order),
                           "topk_weights": weights.gather(1, order),
                           "router_gap": gap(z.softmax(1), 2)})

        def block(blocks, module, out):
            blocks[-1]["moe_output"] = first(out)

        return [(layer.mlp.moe.gate, router), (layer.mlp, block)]


def stub_transformers():
    def module(name, **members):
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(members)

    class Config:
        output_attentions = output_hidden_states = False
        use_return_dict = True

        def __init__(self, **keys):
            vars(self).update(keys)

    class Model(torch.nn.Module):
        def __init__(self, config):
            super().__init__()
            self.config = config

        def post_init(self):
            pass

    logging = types.SimpleNamespace(get_logger=lambda name: None)
    output = lambda **keys: Output(keys)
    module("transformers")
    module("transformers.utils", logging=logging)
    module("transformers.activations", ACT2FN={"silu": torch.nn.SiLU()})
    module("transformers.configuration_utils", PretrainedConfig=Config)
    module("transformers.modeling_utils", PreTrainedModel=Model)
    module("transformers.modeling_outputs", BaseModelOutputWithPast=output,
           CausalLMOutputWithPast=output, SequenceClassifierOutputWithPast=output)


class Output(dict):
    """A model's output, by key and by index."""

    __getattr__ = dict.get

    def __getitem__(self, key):
        return list(self.values())[key] if isinstance(key, int) else super().__getitem__(key)


class Transformers(Adapter):
    """A family of the library transformers, whose `src` folder is named."""

    def __init__(self, code, architecture, config_class, block):
        sys.path.insert(0, str(pathlib.Path(code)))
        library = importlib.import_module("transformers")
        self.architecture, self.config_class = (
            getattr(library, architecture), getattr(library, config_class))
        self.block = block

    def build(self, config):
        # 4.57 does not read the key of transformers 5.
        keys = {**config, **(config.get("rope_parameters") or {})}
        if "rope_parameters" in keys:
            keys["rope_scaling"] = keys.pop("rope_parameters")
        return self.architecture._from_config(self.config_class(**keys),
                                              attn_implementation="eager")

    def records(self, model, layer):
        block = getattr(layer, self.block)
        if not hasattr(block, "experts"):
            return []
        config = model.config
        normalised = getattr(config, "norm_topk_prob", True)

        def record(blocks, module, out):
            output, logits = out
            shares = logits.softmax(-1)
            weights, indices = shares.topk(config.num_experts_per_tok)
            if normalised:
                weights = weights / weights.sum(-1, keepdim=True)
            blocks.append({"moe_output": output, "router_logits": logits, "topk_indices": indices,
                           "topk_weights": weights,
                           "router_gap": gap(shares, config.num_experts_per_tok)})

        return [(block, record)]


ADAPTERS = {
    "moepp": MoePlusPlus,
    "qwen3_moe": lambda code: Transformers(code, "Qwen3MoeForCausalLM", "Qwen3MoeConfig", "mlp"),
    "qwen3_moe_plus_plus": lambda code: Transformers(
        code, "Qwen3MoePlusPlusForCausalLM", "Qwen3MoePlusPlusConfig", "mlp"),
    "mixtral": lambda code: Transformers(code, "MixtralForCausalLM", "MixtralConfig",
                                         "block_sparse_moe"),
}
