"""One peer of `moothall bench`, spoken to in JSON lines: a request in, an answer out.

usage: peer.py export MODELS FILE | onnxruntime FILE | torch MODELS | pipeline

A request is {"sequences": [[id, ...], ...], "batch": n}: the sequences are sorted by length, cut into batches of n
and padded before the clock starts, so that only the model is measured. The answer gives processor seconds of this
process (all its threads), wall seconds, the wall milliseconds of each batch, and the first numbers of the first
sequence given, to compare. One thread, as Moothall runs one engine per core.
"""

import json
import os
import resource
import sys
import time

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
import numpy as np  # noqa: E402


def bert(folder):
    """The encoder of a models folder, in single precision."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    config = transformers.BertConfig.from_json_file(f"{folder}/config.json")
    model = transformers.BertModel(config, add_pooling_layer=False)
    from safetensors.torch import load_file

    weights = {name.removeprefix("bert."): value.float() for name, value in load_file(f"{folder}/model.safetensors").items()}
    missing = model.load_state_dict(weights, strict=False).missing_keys
    if missing:
        raise SystemExit(f"weights are missing: {missing[:3]}")
    return model.eval().float()


def export(folder, path):
    """Writes the encoder as ONNX with free batch and length; any checker of the graph is told of it."""
    import torch

    class Hidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = bert(folder)

        def forward(self, ids, mask):
            return self.model(input_ids=ids, attention_mask=mask).last_hidden_state

    example = torch.ones(2, 8, dtype=torch.long)
    free = {0: "batch", 1: "length"}
    torch.onnx.export(Hidden().eval(), (example, example), path, input_names=["ids", "mask"], output_names=["hidden"],
                      dynamic_axes={"ids": free, "mask": free, "hidden": free}, opset_version=17, dynamo=False)


def onnxruntime(path):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return f"onnxruntime {ort.__version__}", lambda ids, mask: session.run(None, {"ids": ids, "mask": mask})[0]


def torch_peer(folder):
    import torch

    model = bert(folder)

    def run(ids, mask):
        with torch.inference_mode():
            return model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state.numpy()

    return f"torch {torch.__version__}", run


def pipeline():
    """One model per question, of the shapes of the usual choices and with random weights: DistilBERT for sentiment,
    BERT-base for abuse, BART-large-MNLI once per headline theme (four), the hypothesis being ten tokens."""
    import torch
    import transformers as hf

    hf.logging.set_verbosity_error()
    torch.set_num_threads(1)
    sentiment = hf.DistilBertForSequenceClassification(hf.DistilBertConfig(num_labels=2)).eval()
    abuse = hf.BertForSequenceClassification(hf.BertConfig(num_labels=6)).eval()
    entail = hf.BartForSequenceClassification(hf.BartConfig(num_labels=3)).eval()  # the defaults are bart-large

    def run(ids, mask):
        ids, mask = torch.from_numpy(ids) % 28000 + 1000, torch.from_numpy(mask)
        with torch.inference_mode():
            found = sentiment(input_ids=ids, attention_mask=mask).logits
            abuse(input_ids=ids, attention_mask=mask)
            for theme in range(4):
                pair = torch.cat([ids, torch.full((len(ids), 10), 2000 + theme)], 1)
                pair[:, -1] = entail.config.eos_token_id
                entail(input_ids=pair, attention_mask=torch.cat([mask, torch.ones(len(ids), 10, dtype=mask.dtype)], 1))
        return found[:, None, :].numpy()

    return f"torch {torch.__version__}", run


def batches(sequences, size):
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    for start in range(0, len(order), size):
        rows = order[start:start + size]
        length = max(len(sequences[row]) for row in rows)
        ids = np.zeros((len(rows), length), np.int64)
        mask = np.zeros((len(rows), length), np.int64)
        for at, row in enumerate(rows):
            ids[at, :len(sequences[row])] = sequences[row]
            mask[at, :len(sequences[row])] = 1
        yield rows, ids, mask


def main():
    kind, arguments = sys.argv[1], sys.argv[2:]
    if kind == "export":
        export(*arguments)
        return
    name, run = {"onnxruntime": onnxruntime, "torch": torch_peer, "pipeline": pipeline}[kind](*arguments)
    say = lambda value: print(json.dumps(value), flush=True)  # noqa: E731
    say({"name": name})
    for line in sys.stdin:
        request = json.loads(line)
        work = list(batches(request["sequences"], request["batch"]))
        walls, first = [], None
        wall, processor = time.perf_counter(), time.process_time()
        for rows, ids, mask in work:
            before = time.perf_counter()
            hidden = run(ids, mask)
            walls.append((time.perf_counter() - before) * 1e3)
            if 0 in rows:
                first = hidden[rows.index(0), 0, :8]
        say({"processor_s": time.process_time() - processor, "wall_s": time.perf_counter() - wall, "walls_ms": walls,
             "first": [float(value) for value in first],
             "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})


main()
