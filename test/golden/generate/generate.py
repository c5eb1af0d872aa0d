#!/usr/bin/env python3
"""Makes or checks golden cases by running the authors' code. README.md beside it says how."""
import argparse
import json
import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import checkpoints
import upstream
from pack import pack

STEPS = 24
KEPT_STEPS = [0, 1, 11, 23]
COMPARED = ["logits", "hidden_states", "final_hidden", "moe_output", "router_logits",
            "topk_weights", "greedy_logits"]
# Between the last pick and the next expert, in probability.
LEAST_GAP = {"moepp": 1e-3}


def prompts(case, config):
    """Token ids and mask [B, T], padded on the left."""
    lengths, columns = case["batch"]["lengths"], case["batch"]["padded_length"]
    random = torch.Generator().manual_seed(case["seed"] + 1)
    ids = torch.randint(3, config["vocab_size"], (len(lengths), columns), generator=random)
    mask = torch.tensor([[0] * (columns - n) + [1] * n for n in lengths])
    pad = config.get("pad_token_id") or 0
    return torch.where(mask == 1, ids, pad), mask


def positions_of(mask):
    return (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1)


@torch.no_grad()
def results(adapter, config, weights, double, ids, mask):
    """Everything that a case records, of a model in f32 or f64."""
    with upstream.precision(double):
        model = adapter.model(config, weights)
        prefill = adapter.forward(model, ids, mask, positions_of(mask), None)
        out = {name: prefill[name] for name in prefill if name != "cache"}
        # A model object of its own: dynamic RoPE remembers the longest call.
        model = adapter.model(config, weights)
        last = adapter.forward(model, ids, mask, positions_of(mask), None)
        steps, tokens, logits, gaps = [], [], [], []
        for step in range(STEPS):
            row = last["logits"][:, -1]
            best = row.topk(2).values
            logits.append(row)
            gaps.append(best[:, 0] - best[:, 1])
            tokens.append(row.argmax(-1))
            if step == STEPS - 1:
                break
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            last = adapter.forward(model, tokens[-1][:, None], mask, positions_of(mask)[:, -1:],
                                   last["cache"])
            steps.append(last)
    out["greedy_ids"] = torch.stack(tokens, 1)
    out["greedy_gap"] = torch.stack(gaps, 1)
    out["greedy_logits"] = torch.stack([logits[step] for step in KEPT_STEPS])
    for name in ["topk_indices", "topk_weights", "router_gap"]:
        out["greedy_" + name] = torch.cat([step[name] for step in steps], 2)
    return out


def real(tensor, name, mask):
    """The values at real positions."""
    if name == "greedy_logits":
        return tensor
    axis = 0 if name in ("logits", "final_hidden") else 1
    tensor = tensor if axis else tensor[None]
    return tensor[:, mask == 1]


def deviation(a, b):
    both = torch.isfinite(a) & torch.isfinite(b)
    return float((a.double() - b.double())[both].abs().max()) if both.any() else 0.0


def aligned(out):
    """topk_weights by ascending expert, as close picks may come in either order."""
    order = out["topk_indices"].argsort(-1)
    return {**out, "topk_weights": out["topk_weights"].gather(-1, order)}


def rounded_up(value):
    """The next of 1, 1.5, 2, 3, 5, 7 times a power of ten."""
    power = 10.0 ** torch.tensor(value).log10().floor().item()
    return next(m * power for m in (1, 1.5, 2, 3, 5, 7, 10) if m * power >= value)


def near_tie(single, double, mask, family):
    """A choice that rounding could turn, in words; None if there is none."""
    gaps = {"router": real(single["router_gap"][..., None], "router_gap", mask),
            "greedy router": single["greedy_router_gap"], "argmax": single["greedy_gap"]}
    for what, gap in gaps.items():
        least = 1e-3 if what == "argmax" else LEAST_GAP.get(family, 1e-4)
        if gap.min() <= least:
            return f"{what} gap {float(gap.min()):.1e} <= {least}"
    same = torch.equal(single["greedy_ids"], double["greedy_ids"])
    return None if same else "f32 and f64 choose other tokens"


def stored(out, ids, mask, moe_layers):
    """The tensors of expected.safetensors."""
    tensors = {**out, "input_ids": ids, "attention_mask": mask, "position_ids": positions_of(mask),
               "greedy_logits_steps": torch.tensor(KEPT_STEPS),
               "moe_layers": torch.tensor(moe_layers)}
    return {name: (t.float() if t.is_floating_point() else t.int()).contiguous()
            for name, t in tensors.items()}


def make(adapter, folder, family):
    """Writes expected.safetensors and completes case.json; draws weights if there are none."""
    case = json.loads((folder / "case.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    drawn = not checkpoints.has_weights(folder)
    while True:
        if drawn:
            case["weights"]["files"] = checkpoints.draw(adapter, folder, case, config)
        weights = checkpoints.read(folder)
        ids, mask = prompts(case, config)
        single, double = (results(adapter, config, weights, double, ids, mask)
                          for double in (False, True))
        tie = near_tie(single, double, mask, family)
        print(f"{folder.name}: seed {case['seed']}, {tie or 'no near-tie'}", flush=True)
        if not tie:
            break
        case["seed"] += 1
    a, b = aligned(single), aligned(double)
    measured = {name: deviation(real(a[name], name, mask), real(b[name], name, mask))
                for name in COMPARED}
    case["measured_fp32_vs_fp64"] = {name: {"max_abs": off} for name, off in measured.items()}
    case["tolerance"] = {name: {"atol": rounded_up(16 * off), "rtol": 1e-4}
                         for name, off in measured.items()}
    case["min_gaps"] = {"router_prefill": float(real(a["router_gap"][..., None], "", mask).min()),
                        "router_greedy": float(a["greedy_router_gap"].min()),
                        "argmax_logit_greedy": float(a["greedy_gap"].min())}
    save_file(stored(single, ids, mask, adapter.moe_layers(config)),
              folder / "expected.safetensors")
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")


def check(adapter, folder):
    """Runs the recorded weights and prompts; prints the deviations from the recorded results."""
    case = json.loads((folder / "case.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    want = load_file(folder / "expected.safetensors")
    ids, mask = want["input_ids"].long(), want["attention_mask"].long()
    weights = checkpoints.read(folder)
    same = True
    for double in [False, True]:
        got = aligned(results(adapter, config, weights, double, ids, mask))
        wanted = aligned(want)
        line = []
        for name in COMPARED:
            off = deviation(real(got[name], name, mask), real(wanted[name], name, mask))
            same &= off <= case["tolerance"][name]["atol"]
            line.append(f"{name} {off:.1e}")
        for name in ["greedy_ids", "topk_indices", "greedy_topk_indices"]:
            a, b = got[name].sort(-1).values, want[name].sort(-1).values
            if name == "greedy_ids":
                a, b = got[name], want[name]
            elif name == "topk_indices":
                a, b = real(a, name, mask), real(b, name, mask)
            same &= torch.equal(a.int(), b)
        print(f"{folder.name}, {'f64' if double else 'f32'}: {'same' if same else 'DIFFERENT'};",
              "; ".join(line), flush=True)
    return same


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["make", "check"])
    parser.add_argument("family", choices=list(upstream.ADAPTERS))
    parser.add_argument("code", help="folder of the authors' code")
    parser.add_argument("cases", type=pathlib.Path, help="folder of case folders")
    parser.add_argument("names", nargs="*", help="cases; all if none is named")
    parser.add_argument("--pack", type=pathlib.Path, help="pack all cases into this tar")
    args = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    adapter = upstream.ADAPTERS[args.family](args.code)
    folders = sorted(path.parent for path in args.cases.glob("*/config.json"))
    folders = [f for f in folders if not args.names or f.name in args.names]
    if args.action == "check":
        sys.exit(0 if all([check(adapter, folder) for folder in folders]) else 1)
    for folder in folders:
        make(adapter, folder, args.family)
    if args.pack:
        pack(args.cases, args.pack)


if __name__ == "__main__":
    main()
