"""Models of Keras with random weights, their inputs and outputs, for bench/keras.ts.

    python keras_models.py <folder> [name ...]

writes <name>.h5, for some <name>.keras too, and <name>.npz with in0, in1, ... and out0, out1, ... for each model, and one JSON line a
model to stdout: {"name", "kind", "file", "layers"}, or {"name", "error"}.
"""
import gc
import json
import os
import sys

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import Input, Model, Sequential  # noqa: E402
from keras import applications as A  # noqa: E402
from keras import layers as L  # noqa: E402

random = np.random.default_rng(1)


def application(build, size, **options):
    """An architecture of keras.applications on small pictures, without its softmax, which would hide differences."""
    return lambda: build(weights=None, input_shape=(size, size, 3), classifier_activation=None, **options)


APPLICATIONS = {
    "VGG16": application(A.VGG16, 32, classes=10),
    "VGG19": application(A.VGG19, 32, classes=10),
    "ResNet50": application(A.ResNet50, 64),
    "ResNet101": application(A.ResNet101, 33),
    "ResNet152": application(A.ResNet152, 33),
    "ResNet50V2": application(A.ResNet50V2, 64),
    "ResNet101V2": application(A.ResNet101V2, 33),
    "ResNet152V2": application(A.ResNet152V2, 33),
    "MobileNet": application(A.MobileNet, 64, alpha=0.5),
    "MobileNetV2": application(A.MobileNetV2, 65),
    "MobileNetV3Small": application(A.MobileNetV3Small, 64),
    "MobileNetV3Large": application(A.MobileNetV3Large, 65),
    "DenseNet121": application(A.DenseNet121, 64),
    "DenseNet169": application(A.DenseNet169, 64),
    "DenseNet201": application(A.DenseNet201, 33),
    "InceptionV3": application(A.InceptionV3, 75),
    "InceptionResNetV2": application(A.InceptionResNetV2, 75),
    "Xception": application(A.Xception, 71),
    "EfficientNetB0": application(A.EfficientNetB0, 64),
    "EfficientNetB3": application(A.EfficientNetB3, 65),
    "EfficientNetV2B0": application(A.EfficientNetV2B0, 64),
    "EfficientNetV2S": application(A.EfficientNetV2S, 65),
    "NASNetMobile": application(A.NASNetMobile, 64),
    "ConvNeXtTiny": application(A.ConvNeXtTiny, 64),
    "ConvNeXtSmall": application(A.ConvNeXtSmall, 33),
}


def one(shape, *layers):
    """A Sequential of some layers."""
    return lambda: Sequential([Input(shape), *[make() for make in layers]])


def function(shape, body):
    """A Functional model of one input, or of several."""
    shapes = shape if isinstance(shape, list) else [shape]

    def build():
        inputs = [Input(s) for s in shapes]
        return Model(inputs, body(*inputs))

    return build


def nested():
    """Models in models, one of them called twice, with layers of the same name."""
    def make():
        return Sequential([Input((6, 6, 4)), L.Conv2D(4, 3, padding="same", name="same"), L.ReLU()], name="inner")

    inner, other = make(), make()
    x = Input((6, 6, 4))
    deep = Model(x, inner(inner(x)), name="deep")
    i = Input((6, 6, 4))
    y = L.Conv2D(4, 1, name="same")(i)
    return Model(i, L.Dense(3)(L.Flatten()(L.Add()([deep(y), other(y)]))))


def shared():
    """Layers called several times, on different orders of axes."""
    dense = L.Dense(48, name="shared")
    i = Input((4, 4, 3))
    flat = L.Flatten()
    a = dense(flat(L.Conv2D(3, 3, padding="same")(i)))
    return Model(i, [dense(flat(i)), a, dense(a)])


def encoder_decoder():
    """States handed from one recurrent layer to another."""
    i, j = Input((5, 3)), Input((4, 3))
    _, h, c = L.LSTM(6, return_state=True)(i)
    y = L.LSTM(6, return_sequences=True)(j, initial_state=[h, c])
    _, g = L.GRU(6, return_state=True)(i)
    z = L.GRU(6)(y, initial_state=g)
    s = L.Bidirectional(L.LSTM(6, return_state=True))(i)
    return Model([i, j], [y, z, *s])


IMAGE, SIGNAL, VOLUME = (7, 9, 4), (9, 4), (5, 6, 7, 2)


def layer_models():
    """Layers by themselves, with unusual options."""
    found = {}

    def add(name, build):
        found[name] = build

    for padding in ["valid", "same"]:
        for stride in [1, 2, 3]:
            tag = f"{padding}-{stride}"
            add(f"conv2d-{tag}", one(IMAGE, lambda p=padding, s=stride: L.Conv2D(5, (3, 4), strides=s, padding=p)))
            add(f"transpose2d-{tag}", one(IMAGE, lambda p=padding, s=stride: L.Conv2DTranspose(5, (3, 2), strides=s, padding=p)))
            add(f"depthwise-{tag}", one(IMAGE, lambda p=padding, s=stride: L.DepthwiseConv2D(4, strides=s, padding=p, depth_multiplier=2)))
            add(f"separable-{tag}", one(IMAGE, lambda p=padding, s=stride: L.SeparableConv2D(5, 3, strides=s, padding=p, depth_multiplier=2, activation="relu")))
            add(f"maxpool-{tag}", one(IMAGE, lambda p=padding, s=stride: L.MaxPooling2D(3, strides=s, padding=p)))
            add(f"avgpool-{tag}", one(IMAGE, lambda p=padding, s=stride: L.AveragePooling2D((2, 3), strides=s, padding=p)))
            add(f"conv1d-{tag}", one(SIGNAL, lambda p=padding, s=stride: L.Conv1D(5, 4, strides=s, padding=p)))
            add(f"conv3d-{tag}", one(VOLUME, lambda p=padding, s=stride: L.Conv3D(3, 2, strides=s, padding=p)))
            add(f"transpose1d-{tag}", one(SIGNAL, lambda p=padding, s=stride: L.Conv1DTranspose(3, 4, strides=s, padding=p)))
            add(f"free-size-{tag}", one((None, None, 3), lambda p=padding, s=stride: L.Conv2D(4, 3, strides=s, padding=p), lambda p=padding, s=stride: L.MaxPooling2D(3, strides=s, padding=p), lambda p=padding, s=stride: L.Conv2D(4, 1, strides=s, padding=p)))
    for padding in ["valid", "same"]:
        add(f"conv2d-dilated-{padding}", one(IMAGE, lambda p=padding: L.Conv2D(5, 3, dilation_rate=(2, 3), padding=p)))
        add(f"depthwise-dilated-{padding}", one(IMAGE, lambda p=padding: L.DepthwiseConv2D(3, dilation_rate=2, padding=p)))
        add(f"transpose-output-padding-{padding}", one(IMAGE, lambda p=padding: L.Conv2DTranspose(3, 3, strides=2, output_padding=1, padding=p)))
        add(f"transpose3d-{padding}", one(VOLUME, lambda p=padding: L.Conv3DTranspose(3, 3, strides=2, padding=p)))
        add(f"pool1d-{padding}", one(SIGNAL, lambda p=padding: L.AveragePooling1D(3, strides=2, padding=p), lambda p=padding: L.MaxPooling1D(2, padding=p)))
        add(f"pool3d-{padding}", one(VOLUME, lambda p=padding: L.AveragePooling3D(2, padding=p), lambda p=padding: L.MaxPooling3D(2, padding=p)))
        add(f"free-transpose-{padding}", one((None, None, 3), lambda p=padding: L.Conv2DTranspose(4, 3, strides=2, padding=p)))
    add("conv2d-groups", one(IMAGE, lambda: L.Conv2D(6, 3, groups=2, use_bias=False, activation="tanh")))
    add("conv1d-causal", one(SIGNAL, lambda: L.Conv1D(5, 3, dilation_rate=2, padding="causal")))
    add("separable1d", one(SIGNAL, lambda: L.SeparableConv1D(5, 3, padding="same"), lambda: L.DepthwiseConv1D(3)))
    add("flatten-dense", one(IMAGE, lambda: L.Conv2D(3, 3), L.Flatten, lambda: L.Dropout(0.5), L.ReLU, lambda: L.Dense(5)))
    add("flatten-batchnorm", one(IMAGE, lambda: L.Conv2D(3, 3), L.Flatten, L.BatchNormalization, lambda: L.Dense(5, activation="softmax")))
    add("flatten-output", one(IMAGE, lambda: L.Conv2D(3, 3), L.Flatten, L.Softmax))
    add("flatten-reshape", one((4, 4, 2), lambda: L.Conv2D(3, 1), L.Flatten, lambda: L.Reshape((3, -1)), lambda: L.Dense(2)))
    add("flatten-concat", function((4, 4, 2), lambda x: L.Dense(3)(L.Concatenate()([L.Flatten()(L.Conv2D(2, 3)(x)), L.Flatten()(L.Conv2D(3, 2)(x))]))))
    add("flatten-add", function((4, 4, 2), lambda x: L.Dense(3)(L.Add()([L.Flatten()(L.Conv2D(2, 3)(x)), L.Flatten()(L.Conv2D(2, 3)(x))]))))
    add("dense-4d", one(IMAGE, lambda: L.Conv2D(3, 3), lambda: L.Dense(6, activation="gelu"), lambda: L.Dense(2)))
    add("dense-3d", one(SIGNAL, lambda: L.Dense(6, activation="selu"), lambda: L.Dense(2, use_bias=False)))
    for name in ["batchnorm", "layernorm"]:
        make = L.BatchNormalization if name == "batchnorm" else L.LayerNormalization
        add(f"{name}-image", one(IMAGE, lambda m=make: m(), lambda: L.Conv2D(2, 2), lambda m=make: m(scale=False)))
        add(f"{name}-signal", one(SIGNAL, lambda m=make: m(center=False)))
        add(f"{name}-vector", one((6,), lambda m=make: m(epsilon=0.1)))
    add("layernorm-axes", one(IMAGE, lambda: L.LayerNormalization(axis=[1, 2, 3])))
    add("groupnorm", one(IMAGE, lambda: L.GroupNormalization(2), lambda: L.Conv2D(4, 2), lambda: L.GroupNormalization(-1, scale=False)))
    add("normalization", one(IMAGE, lambda: L.Normalization(mean=[1.0, 2, 3, 4], variance=[1.0, 2, 3, 0]), lambda: L.Rescaling([1.0, 2, 3, 4], [0, 0, 1, 2])))
    add("normalization-invert", one((4,), lambda: L.Normalization(mean=2.0, variance=3.0, invert=True)))
    add("unit-normalization", one(IMAGE, lambda: L.UnitNormalization(axis=[1, 3])))
    for i, options in enumerate([{}, {"max_value": 0.5}, {"negative_slope": 0.1}, {"threshold": 0.3}, {"max_value": 0.8, "negative_slope": 0.2, "threshold": 0.1}]):
        add(f"relu-{i}", one(IMAGE, lambda o=options: L.ReLU(**o)))
    add("leaky-relu", one(IMAGE, lambda: L.LeakyReLU(0.2), lambda: L.ELU(0.5)))
    add("prelu", one(IMAGE, lambda: L.Conv2D(3, 2), lambda: L.PReLU(), lambda: L.PReLU(shared_axes=[1, 2])))
    add("softmax-axis", one(IMAGE, lambda: L.Conv2D(3, 2), lambda: L.Softmax(axis=2), lambda: L.Softmax()))
    for name in "celu elu exponential gelu hard_sigmoid hard_silu hard_tanh leaky_relu log_sigmoid log_softmax mish relu relu6 selu sigmoid silu softmax softplus softsign swish tanh tanh_shrink".split():
        add(f"activation-{name}", one((5, 3), lambda n=name: L.Activation(n)))
    add("activation-object", one(IMAGE, lambda: L.Conv2D(3, 2, activation=L.LeakyReLU(0.1))))
    for make in [L.GlobalAveragePooling2D, L.GlobalMaxPooling2D]:
        add(f"{make.__name__}", function(IMAGE, lambda x, m=make: [m(keepdims=k)(x) for k in (False, True)]))
    add("global-1d-3d", function([SIGNAL, VOLUME], lambda a, b: [L.GlobalAveragePooling1D()(a), L.GlobalMaxPooling1D()(a), L.GlobalAveragePooling3D()(b), L.GlobalMaxPooling3D(keepdims=True)(b)]))
    add("pad-crop", one(IMAGE, lambda: L.ZeroPadding2D(((1, 2), (3, 0))), lambda: L.Conv2D(2, 2), lambda: L.Cropping2D(((1, 0), (2, 3)))))
    add("pad-crop-1d", one(SIGNAL, lambda: L.ZeroPadding1D((1, 2)), lambda: L.Cropping1D((2, 0)), lambda: L.UpSampling1D(3)))
    add("pad-crop-3d", one(VOLUME, lambda: L.ZeroPadding3D(1), lambda: L.Cropping3D(((1, 0), (0, 1), (2, 2))), lambda: L.UpSampling3D((1, 2, 3))))
    for mode in ["nearest", "bilinear"]:
        add(f"upsampling-{mode}", one(IMAGE, lambda m=mode: L.UpSampling2D((2, 3), interpolation=m)))
    add("permute-repeat", one((5, 3), lambda: L.Permute((2, 1)), lambda: L.LSTM(4), lambda: L.RepeatVector(3)))
    add("reshape", one((4, 6), lambda: L.Reshape((2, -1, 3)), lambda: L.Conv2D(2, 2), lambda: L.Reshape((-1,))))
    add("squeeze-excite", function(IMAGE, lambda x: (lambda y: L.Multiply()([y, L.Conv2D(5, 1, activation="hard_sigmoid")(L.Reshape((1, 1, 5))(L.GlobalAveragePooling2D()(y)))]))(L.Conv2D(5, 3)(x))))
    add("merge", function([IMAGE, IMAGE], lambda a, b: [L.Add()([a, b]), L.Subtract()([a, b]), L.Multiply()([a, b]), L.Average()([a, b]), L.Maximum()([a, b]), L.Minimum()([a, b]), L.Concatenate(axis=1)([a, b]), L.Concatenate()([L.Conv2D(2, 1)(a), b])]))
    add("merge-broadcast", function([IMAGE, (4,)], lambda a, b: [L.Multiply()([L.Conv2D(4, 1)(a), b]), L.Add()([a, b])]))
    add("operators", function((5, 3), lambda x: [(x + 3.0) * (1 / 6.0), 1.0 - x, 2.0 / (x + 10.0), keras.ops.relu(x), keras.ops.sigmoid(-1.0 * x), keras.ops.mean(x, axis=1), x * x]))
    add("dot", function([(4, 3), (5, 3)], lambda a, b: [L.Dot(axes=(2, 2))([a, b]), L.Dot(axes=2, normalize=True)([a, b])]))
    add("dot-vectors", function([(3,), (3,), (4, 3)], lambda a, b, c: [L.Dot(axes=1)([a, b]), L.Dot(axes=(1, 2))([a, c])]))
    for kind in ["LSTM", "GRU", "SimpleRNN"]:
        make = getattr(L, kind)
        add(f"{kind}", one((6, 3), lambda m=make: m(4, return_sequences=True), lambda m=make: m(5)))
        add(f"{kind}-options", one((6, 3), lambda m=make: m(4, return_sequences=True, go_backwards=True, use_bias=False), lambda m=make: m(5, activation="relu", go_backwards=True)))
        for mode in ["concat", "sum", "mul", "ave", None]:
            add(f"bidirectional-{kind}-{mode}", one((6, 3), lambda m=make, j=mode: L.Bidirectional(m(4, return_sequences=True), merge_mode=j)) if mode else function((6, 3), lambda x, m=make: L.Bidirectional(m(4), merge_mode=None)(x)))
        add(f"bidirectional-{kind}-last", one((6, 3), lambda m=make: L.Bidirectional(m(4), merge_mode="sum"), lambda: L.Dense(2)))
    add("LSTM-hard-sigmoid", one((6, 3), lambda: L.LSTM(4, recurrent_activation="hard_sigmoid", activation="softsign")))
    add("GRU-reset-before", one((6, 3), lambda: L.GRU(4, reset_after=False)))
    add("states", encoder_decoder)
    add("time-distributed", one((5, 7, 9, 2), lambda: L.TimeDistributed(L.Conv2D(3, 3)), lambda: L.TimeDistributed(L.Flatten()), lambda: L.TimeDistributed(L.Dense(3)), lambda: L.LSTM(2)))
    add("embedding", function((6,), lambda x: L.GlobalAveragePooling1D()(L.Embedding(10, 4)(x))))
    add("attention", function((6, 8), lambda x: L.LayerNormalization()(L.Add()([x, L.MultiHeadAttention(2, 4)(x, x)]))))
    add("attention-cross", function([(6, 8), (5, 3)], lambda x, y: L.MultiHeadAttention(3, 4, value_dim=5, use_bias=False)(x, y, y, use_causal_mask=True)))
    add("dropouts", one(IMAGE, lambda: L.GaussianNoise(1.0), lambda: L.SpatialDropout2D(0.3), lambda: L.AlphaDropout(0.3), lambda: L.RandomFlip(), lambda: L.Conv2D(2, 3)))
    add("nested", nested)
    add("shared", shared)
    add("identity-output", function(IMAGE, lambda x: [x, L.Conv2D(4, 1)(x), L.Dropout(0.5)(x)]))
    return found


def channels_first_models():
    """The same with `data_format="channels_first"`, which TensorFlow runs on a CPU only in part."""
    f = {"data_format": "channels_first"}
    shape = (4, 7, 9)
    return {
        "first-pad-crop": one(shape, lambda: L.ZeroPadding2D(1, **f), lambda: L.Cropping2D(((1, 0), (0, 2)), **f), lambda: L.UpSampling2D(2, **f)),
        "first-norm": one(shape, lambda: L.BatchNormalization(axis=1), lambda: L.GroupNormalization(2, axis=1), lambda: L.GlobalAveragePooling2D(**f)),
        "first-flatten": one(shape, lambda: L.BatchNormalization(axis=1), lambda: L.Flatten(**f), lambda: L.Dense(3)),
    }


def randomize(model):
    """Weights whose effect shows in the output, at a scale that deep networks survive."""
    for weight in model.weights:
        name = weight.path.split("/")[-1]
        # a Normalization layer computes with copies of its statistics
        if "seed" in name or name in ("mean", "variance") or weight.dtype != "float32":
            continue
        shape = tuple(weight.shape)
        if name in ("gamma", "scale"):
            value = random.uniform(0.8, 1.2, shape)
        elif name == "moving_variance":
            value = random.uniform(0.5, 1.5, shape)
        elif len(shape) < 2:
            value = random.normal(0, 0.1, shape)
        else:
            continue
        weight.assign(value.astype("float32"))


def settle(model, inputs):
    """Statistics of BatchNormalization as of these inputs: without, deep random networks amplify rounding without bounds."""
    norms = [layer for layer in model.layers if isinstance(layer, L.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0
    if norms:
        model(inputs, training=True)
    for layer in norms:
        layer.momentum = 0.99


def feed(model, name):
    """A batch of three for every input."""
    shapes = [tuple(16 + i if s is None else s for i, s in enumerate(x.shape[1:])) for x in model.inputs]
    if name == "embedding":
        return [random.integers(0, 10, (3, *shape)).astype("float32") for shape in shapes]
    scale = 64.0 if name in APPLICATIONS else 1.0
    return [(random.normal(0, 1, (3, *shape)) * scale).astype("float32") for shape in shapes]


def write(folder, name, kind, build, suffixes):
    keras.utils.set_random_seed(1)
    model = build()
    randomize(model)
    inputs = feed(model, name)
    if kind == "application":
        settle(model, inputs[0])
    outputs = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    arrays = {f"in{i}": x for i, x in enumerate(inputs)} | {f"out{i}": np.asarray(y) for i, y in enumerate(outputs)}
    np.savez(f"{folder}/{name}.npz", **arrays)
    for suffix in suffixes:
        model.save(f"{folder}/{name}{suffix}")
        print(json.dumps({"name": name, "kind": kind, "file": f"{name}{suffix}", "layers": len(model.layers)}), flush=True)


def main():
    folder, *wanted = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    single = {**layer_models(), **channels_first_models()}
    every = [(n, "layer", b) for n, b in single.items()] + [(n, "application", b) for n, b in APPLICATIONS.items()]
    for name, kind, build in every:
        if wanted and name not in wanted:
            continue
        both = kind == "layer" or name in ("MobileNetV2", "EfficientNetB0")
        try:
            write(folder, name, kind, build, [".h5", ".keras"] if both else [".h5"])
        except Exception as error:  # what Keras itself refuses is no result
            print(json.dumps({"name": name, "kind": kind, "error": f"{type(error).__name__}: {str(error)[:300]}"}), flush=True)
        keras.backend.clear_session()
        gc.collect()


main()
