"""Quantize one model with onnxruntime.quantization, and report what it cost.

    python quantize.py CONFIG.json      # "-" reads the configuration from stdin

prints exactly one JSON line on stdout:

    {"output": ..., "bytes": ..., "import_s": ..., "preprocess_s": ..., "quantize_s": ..., "peak_rss_mb": ..., "versions": {...}}
    {"error": "ValueError: ...", ...}   # and exit status 1

Configuration (everything but model, output and method is optional):

    model, output   file names
    method          "static", "dynamic" or "matmul_nbits"
    algo            for matmul_nbits: "default", "rtn", "k_quant", "hqq" (needs torch)
    opset           convert the model to this opset first (per-channel QDQ needs 13, and the tool does not raise it itself)
    preprocess      true runs quant_pre_process (shape inference, constant folding, BatchNorm folding) first
    calibration     for static: an .npz with the arrays `<inputName>`, sample axis first,
                    or with whole feeds named `<i>/<inputName>`, i = 0, 1, ...
    batch           samples per feed of the first form, default 1
    options         keyword arguments of quantize_static, quantize_dynamic or MatMulNBitsQuantizer; enumerations by name,
                    e.g. {"per_channel": true, "activation_type": "QUInt8", "calibrate_method": "Percentile",
                          "extra_options": {"CalibPercentile": 99.99}}
"""

import contextlib
import json
import logging
import os
import re
import resource
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
            self.feeds = [
                {name: array[start : start + batch] for name, array in whole.items()} for start in range(0, count, batch)
            ]
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
    """Opset conversion and quant_pre_process; returns the file to quantize and a note on what was done."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model, note = config["model"], "none"
    with clock.phase("preprocess"):
        if "opset" in config:
            converted = onnx.version_converter.convert_version(onnx.load(model), config["opset"])
            model = os.path.join(folder, "converted.onnx")
            onnx.save(converted, model)
            note = f"opset {config['opset']}"
        if config.get("preprocess"):
            source, model = model, os.path.join(folder, "preprocessed.onnx")
            try:
                quant_pre_process(source, model)
                note = "full"
            except Exception as error:  # symbolic inference gives up on some graphs; the documented way out is to skip it
                quant_pre_process(source, model, skip_symbolic_shape=True)
                note = f"without symbolic shapes ({type(error).__name__}: {error})"
    return model, note


def weight_only(model, output, algo, options):
    """MatMulNBits with one of the tool's algorithms; each takes its options by another door."""
    import onnx
    from onnxruntime.quantization import matmul_nbits_quantizer as nbits

    matmuls = [node.name for node in onnx.load(model, load_external_data=False).graph.node if node.op_type == "MatMul"]
    own = {}  # options of the algorithm's own configuration class
    if algo == "default":
        own_class = None
    elif algo in ("rtn", "k_quant"):
        own_class = {"rtn": nbits.RTNWeightOnlyQuantConfig, "k_quant": nbits.KQuantWeightOnlyQuantConfig}[algo]
        if "bits" in options:  # 4 unless set node by node
            own["customized_weight_config"] = {name: {"bits": options["bits"]} for name in matmuls}
            options = {key: value for key, value in options.items() if key != "bits"}
    elif algo == "hqq":
        own_class = nbits.HQQWeightOnlyQuantConfig
        own = {key: options[key] for key in ("block_size", "bits", "op_types_to_quantize") if key in options}
        ignored = set(options) - set(own) - {"nodes_to_exclude"}
        if ignored:
            raise ValueError(f"hqq has no option {', '.join(sorted(ignored))}")
        options = {key: value for key, value in options.items() if key not in own}
    else:
        raise ValueError(f"unknown algo {algo!r}")
    quantizer = nbits.MatMulNBitsQuantizer(model, algo_config=own_class and own_class(**own), **options)
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
    with tempfile.TemporaryDirectory(prefix="peer.") as folder:
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
