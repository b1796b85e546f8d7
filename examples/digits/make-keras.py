"""Trains a small Keras network on the digits and writes model.h5: `python examples/digits/make-keras.py`.

Keras 3 with any backend; half a minute. Only who wants to make the file anew needs this.
"""

import gzip
import pathlib

import keras
import numpy as np

here = pathlib.Path(__file__).parent


def read(name: str, header: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress((here / name).read_bytes()), np.uint8, offset=header)


def split(name: str) -> tuple[np.ndarray, np.ndarray]:
    pictures = read(f"{name}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1)
    return pictures.astype("float32") / 255, read(f"{name}-labels-idx1-ubyte.gz", 8).astype("int32")


keras.utils.set_random_seed(1)
model = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        keras.layers.Dense(32, activation="relu"),
        keras.layers.Dropout(0.2),
        keras.layers.Dense(10, activation="softmax"),
    ],
    name="digits",
)
model.compile(optimizer=keras.optimizers.Adam(3e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(*split("train"), batch_size=64, epochs=12, verbose=2)
print(model.evaluate(*split("t10k"), verbose=0))
model.save(here / "model.h5", include_optimizer=False)
