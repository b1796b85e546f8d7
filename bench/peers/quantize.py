"""Quantize one model with onnxruntime.quantization, and report what it cost.

    python quantize.py CONFIG.json      # "-" reads the configuration from stdin

prints exactly one JSON line on stdout:

    {"output": ..., "bytes": ..., "preprocess": ..., "versions": {...},
     "import_s": ..., "preprocess_s": ..., "quantize_s": ..., "peak_rss_mb": ...}
    {"error": "ValueError: ...", "import_s": ..., ...}   and exit status 1

Configuration (everything but model, output and method is optional):

    model, output   file names (weights inside the model file)
    method          "static", "dynamic" or "matmul_nbits"
    algo            for matmul_nbits: "default", "rtn", "k_quant" or "hqq" (needs torch)
    opset           convert the model to this opset first; per-channel QDQ needs 13, and the tool does not see to it
    preprocess      true runs quant_pre_process (shape inference, constant folding, BatchNorm folding) first
    calibration     for static: an .npz with the arrays `<inputName>`, sample axis first,
                    or with whole feeds named `<i>/<inputName>`, i = 0, 1, ...
    batch           samples per feed of the first form, default 1
    options         keyword arguments of quantize_static, quantize_dynamic or MatMulNBitsQuantizer, enumerations by
                    name: {"per_channel": true, "activation_type": "QUInt8", "calibrate_method": "Percentile",
                          "extra_options": {"CalibPercentile": 99.99}}
"""

import contextlib
import json
import logging
import os
import re
import resource
import shutil
import sys
import tempfile
import time


class Clock:
    """Wall seconds per phase."""

    def __init__(self):
        self.seconds = {}

    @contextlib.contextmanager
    def phase(self, name):
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[f"{name}_s"] = round(time.perf_counter() - start, 3)


class Feeds:
    """Calibration feeds out of an .npz; has the methods that ONNX Runtime asks of a CalibrationDataReader."""

    def __init__(self, file, batch=1):
        import numpy

        arrays = numpy.load(file)
        if all(re.match(r"\d+/", name) for name in arrays.files):
            feeds = {}
            for name in arrays.files:
                index, _, input_name = name.partition("/")
                feeds.setdefault(int(index), {})[input_name] = arrays[name]
            self.feeds = [feeds[index] for index in sorted(feeds)]
        else:
            whole = {name: arrays[name] for name in arrays.files}
            count = min(len(array) for array in whole.values())
            starts = range(0, count, batch)
            self.feeds = [{name: array[at : at + batch] for name, array in whole.items()} for at in starts]
        self.set_range(0, len(self.feeds))

    def __len__(self):
        return len(self.feeds)

    def set_range(self, start_index, end_index):
        self.rest = iter(self.feeds[start_index:end_index])

    def get_next(self):
        return next(self.rest, None)


def named_enumerations(options):
    """Replaces the names of enumeration members by the members."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType

    kinds = {
        "activation_type": QuantType,
        "weight_type": QuantType,
        "quant_format": QuantFormat,
        "calibrate_method": CalibrationMethod,
    }
    return {key: kinds[key][value] if key in kinds else value for key, value in options.items()}


def preprocess(config, folder, clock):
    """Opset conversion and quant_pre_process; returns the file to quantize, in `folder`, and a note on it."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model, note = os.path.join(folder, "model.onnx"), "none"
    with clock.phase("preprocess"):
        if "opset" in config:
            onnx.save(onnx.version_converter.convert_version(onnx.load(config["model"]), config["opset"]), model)
            note = f"opset {config['opset']}"
        else:
            shutil.copy(config["model"], model)  # the tool writes a file of its own next to its input
        if config.get("preprocess"):
            source, model = model, os.path.join(folder, "preprocessed.onnx")
            try:
                quant_pre_process(source, model)
                note = "full"
            except Exception as error:  # symbolic inference gives up on some graphs; the documented way out: skip it
                quant_pre_process(source, model, skip_symbolic_shape=True)
                note = f"without symbolic shapes ({type(error).__name__}: {error})"
    return model, note


def weight_only(model, output, algo, options):
    """MatMulNBits with one of the tool's algorithms; each takes its options by another door."""
    import onnx
    from onnxruntime.quantization import matmul_nbits_quantizer as nbits

    config = None  # that of "default" is made from the options
    if algo in ("rtn", "k_quant"):
        config = nbits.RTNWeightOnlyQuantConfig() if algo == "rtn" else nbits.KQuantWeightOnlyQuantConfig()
        bits = options.pop("bits", 4)  # 4 unless set node by node
        nodes = onnx.load(model).graph.node
        config.customized_weight_config = {node.name: {"bits": bits} for node in nodes if node.op_type == "MatMul"}
    elif algo == "hqq":
        own = {key: options.pop(key) for key in ("block_size", "bits", "op_types_to_quantize") if key in options}
        config = nbits.HQQWeightOnlyQuantConfig(**own)
        for key in options.keys() - {"nodes_to_exclude"}:  # the tool would ignore it silently
            raise ValueError(f"hqq has no option {key}")
    elif algo != "default":
        raise ValueError(f"unknown algo {algo!r}")
    quantizer = nbits.MatMulNBitsQuantizer(model, algo_config=config, **options)
    quantizer.process()
    quantizer.model.save_model_to_file(output)


def quantize(config, clock):
    """Runs one configuration; returns the fields of the report."""
    with clock.phase("import"):
        import onnx
        import onnxruntime
        from onnxruntime.quantization import quantize_dynamic, quantize_static

        if config["method"] == "matmul_nbits":
            from onnxruntime.quantization import matmul_nbits_quantizer  # noqa: F401
        if config.get("algo") == "hqq":
            import torch  # noqa: F401
        if config.get("preprocess"):
            from onnxruntime.tools import symbolic_shape_infer  # noqa: F401
    logging.disable(logging.INFO)
    options = named_enumerations(config.get("options", {}))
    for key in config.keys() & {"model", "output", "calibration"}:
        config[key] = os.path.abspath(config[key])
    # the tool leaves sym_shape_infer_temp.onnx and its data in the working directory where shape inference fails
    with tempfile.TemporaryDirectory(prefix="peer.") as folder, contextlib.chdir(folder):
        model, note = preprocess(config, folder, clock)
        with clock.phase("quantize"):
            if config["method"] == "static":
                feeds = Feeds(config["calibration"], config.get("batch", 1))
                quantize_static(model, config["output"], feeds, **options)
            elif config["method"] == "dynamic":
                quantize_dynamic(model, config["output"], **options)
            elif config["method"] == "matmul_nbits":
                weight_only(model, config["output"], config.get("algo", "default"), options)
            else:
                raise ValueError(f"unknown method {config['method']!r}")
    return {
        "output": config["output"],
        "bytes": os.path.getsize(config["output"]),
        "preprocess": note,
        "versions": {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__},
    }


def main():
    clock = Clock()
    with contextlib.redirect_stdout(sys.stderr):  # the tool prints progress
        try:
            with contextlib.nullcontext(sys.stdin) if sys.argv[1] == "-" else open(sys.argv[1]) as file:
                config = json.load(file)
            report = quantize(config, clock)
        except Exception as error:
            report = {"error": f"{type(error).__name__}: {error}"}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes, but bytes on macOS
    report |= clock.seconds
    report["peak_rss_mb"] = round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
    print(json.dumps(report))
    sys.exit(1 if "error" in report else 0)


if __name__ == "__main__":
    main()
