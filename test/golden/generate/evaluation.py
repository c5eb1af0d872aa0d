#!/usr/bin/env python3
"""Makes evaluation/harness.json with lm-evaluation-harness's own code.

    python3 evaluation.py DIR ../evaluation

DIR is a checkout of lm-evaluation-harness. It needs numpy, jinja2, yaml, tqdm, dill and
more-itertools. Other imports of the harness are replaced: no model and no data set is loaded.
"""
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import re
import sys
import types

HARNESS, DATA = (pathlib.Path(arg) for arg in sys.argv[1:3])
NOT_NEEDED = ["datasets", "evaluate", "torch", "sacrebleu", "transformers", "sqlitedict",
              "pytablewriter", "word2number", "peft", "accelerate"]


class Anything(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


for name in NOT_NEEDED:
    module = Anything(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    sys.modules[name] = module
version_of = importlib.metadata.version
importlib.metadata.version = lambda name: "0" if name == "lm_eval" else version_of(name)
os.environ["DISABLE_MULTIPROC"] = "1"
sys.path.insert(0, str(HARNESS))

import yaml
from lm_eval import utils
from lm_eval.api import metrics
from lm_eval.api.model import TemplateLM
from lm_eval.api.task import ConfigurableTask


class Split(list):
    """The part of a datasets.Dataset that tasks use."""

    @property
    def features(self):
        return dict.fromkeys(self[0])

    def map(self, change):
        return Split({**doc, **change(doc)} for doc in self)


def fnv(values, start=2166136261):
    """FNV-1a, 32 bits."""
    for value in values:
        start = ((start ^ value) * 16777619) & 0xFFFFFFFF
    return start


class StandIn(TemplateLM):
    """As test/evaluate/stand-in.ts: probabilities are hashes of all tokens before."""

    eot_token_id = 1

    def __init__(self, context, stride):
        super().__init__()
        self.context, self.stride = context, stride

    def tok_encode(self, string, add_special_tokens=None, **_):
        parts = re.findall(r" ?[A-Za-z]+|[\s\S]", string)
        ids = [fnv(part.encode()) % 50000 + 2 for part in parts]
        return ids if add_special_tokens is False else [1, *ids]

    def score(self, context, continuation):
        # The cut of lm_eval/models/huggingface.py.
        whole = (context + continuation)[-(self.context + 1):]
        assert context and 0 < len(continuation) <= self.context
        first = len(whole) - len(continuation)
        hashes = [fnv(whole[:end + 1]) for end in range(first, len(whole))]
        logprob = 0.0
        for each in hashes:
            logprob -= each % 1000003 / 250000
        return logprob, all((each >> 8) % 4 != 0 for each in hashes)

    def _loglikelihood_tokens(self, requests, **_):
        return [self.score(context, continuation) for _, context, continuation in requests]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        return [self.rolling(*request.args) for request in requests]

    def rolling(self, text):
        windows = utils.get_rolling_token_windows(
            self.tok_encode(text), self.prefix_token_id, self.context,
            self.context - self.stride + 1)
        return sum(self.score(*utils.make_disjoint_window(window))[0] for window in windows)

    def generate_until(self, requests, disable_tqdm=False):
        raise NotImplementedError


def config_of(path):
    """A task's YAML, with its functions and what it includes."""

    class Loader(yaml.SafeLoader):
        pass

    def function(_, node):
        module, name = node.value.rsplit(".", 1)
        spec = importlib.util.spec_from_file_location(module, path.parent / f"{module}.py")
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return getattr(loaded, name)

    Loader.add_constructor("!function", function)
    config = yaml.load(path.read_text(), Loader)
    if "include" in config:
        config = {**config_of(path.parent / config.pop("include")), **config}
    return config


def rows(name):
    return Split(json.loads(line) for line in (DATA / f"{name}.jsonl").open())


def run(name, task, splits, shots=0, context=10000, stride=None, changes={}):
    config = config_of(HARNESS / "lm_eval" / "tasks" / task) | changes
    config |= {"custom_dataset": lambda **_: splits, "num_fewshot": shots, "metadata": {}}
    for key in ("dataset_path", "tag"):
        config.pop(key, None)
    task = ConfigurableTask(config=config)
    task.set_fewshot_seed(1234)
    task.build_all_requests()
    instances = task.instances
    model = StandIn(context, stride or context)
    results = getattr(model, instances[0].request_type)(instances)
    for instance, result in zip(instances, results):
        instance.resps.append(result)
    task.apply_filters()
    documents = {}
    for instance in instances:
        documents.setdefault(instance.doc_id, []).append(instance)
    values = {}
    for _, own in sorted(documents.items()):
        answers = [instance.filtered_resps["none"] for instance in own]
        for metric, value in task.process_results(own[0].doc, answers).items():
            values.setdefault(metric, []).append(value)
    found = {}
    for metric, items in values.items():
        aggregation = task.aggregation()[metric]
        error = metrics.stderr_for_metric(aggregation, 100000)
        found[metric] = [aggregation(items), error(items) if error else None]
    windows = {"stride": stride} if stride else {"shots": shots}
    logprobs = [result if isinstance(result, float) else result[0] for result in results]
    return {"task": name, **windows, "contextLength": context, "documents": len(documents),
            "metrics": found, "logprobs": logprobs}


def cases():
    for name, task in [("winogrande", "winogrande/default.yaml"),
                       ("hellaswag", "hellaswag/hellaswag.yaml"), ("piqa", "piqa/piqa.yaml")]:
        splits = {"train": rows(f"{name}-train"), "validation": rows(name)}
        for shots, context in [(0, 10000), (3, 10000), (3, 40)]:
            yield run(name, task, splits, shots, context)
    as_glue = lambda docs: Split({**doc, "label": int(doc["answer"])} for doc in docs)
    splits = {"train": as_glue(rows("boolq-train")), "validation": as_glue(rows("boolq"))}
    for shots in (0, 2):
        yield run("boolq", "super_glue/boolq/default.yaml", splits, shots)
    splits = {"train": rows("arc-train"), "validation": rows("arc"), "test": rows("arc")}
    for shots, context in [(0, 10000), (6, 10000), (6, 40)]:
        yield run("arc", "arc/arc_easy.yaml", splits, shots, context)
    for shots in (0, 5):
        yield from mmlu(shots)
    for shots in (0, 2):
        yield run("lambada", "lambada/lambada_openai.yaml", {"test": rows("lambada")}, shots)
    text = {"doc_to_target": "text", "process_results": None, "training_split": None,
            "validation_split": None}
    for context, stride in [(10000, 10000), (16, 16), (16, 5), (16, 1)]:
        yield run("text", "wikitext/wikitext.yaml", {"test": rows("texts")}, 0, context, stride,
                  text)


def mmlu(shots):
    of = lambda docs, subject: Split(doc for doc in docs if doc["subject"] == subject)
    parts = []
    for subject in ("abstract_algebra", "anatomy"):
        splits = {"test": of(rows("mmlu"), subject), "dev": of(rows("mmlu-dev"), subject)}
        parts.append(run(f"mmlu_{subject}", f"mmlu/default/mmlu_{subject}.yaml", splits, shots))
    yield from parts
    sizes = [part["documents"] for part in parts]
    values, errors = zip(*(part["metrics"]["acc"] for part in parts))
    acc = [metrics.aggregate_subtask_metrics(values, sizes),
           float(metrics.pooled_sample_stderr(errors, sizes))]
    yield {"task": "mmlu", "shots": shots, "contextLength": 10000, "documents": sum(sizes),
           "metrics": {"acc": acc}, "logprobs": []}


lines = ",\n".join(f"  {json.dumps(case)}" for case in cases())
(DATA / "harness.json").write_text(f"[\n{lines}\n]\n")
