import { zipSync } from "fflate";
import * as h5 from "h5wasm";
import { random } from "../src/random.ts";
import { float32, type Tensor, toFloat32 } from "../src/tensor/tensor.ts";

/** A layer with its weights, as a test writes it. */
export interface TestLayer {
  readonly class_name: string;
  readonly config: Readonly<Record<string, unknown>> & { readonly name: string };
  /** By the name that Keras gives them. */
  readonly weights?: Readonly<Record<string, Tensor>>;
  readonly inbound_nodes?: unknown;
  readonly module?: string;
}

/** An architecture (or its text) and the weights of each layer, as an HDF5 file the way Keras writes it. */
export async function h5Model(
  architecture: unknown,
  layers: readonly Pick<TestLayer, "config" | "weights">[],
  version = "2.4.0",
): Promise<Uint8Array> {
  return h5File((file) => {
    const text = typeof architecture === "string" ? architecture : JSON.stringify(architecture);
    if (text !== undefined) file.create_attribute("model_config", text);
    file.create_attribute("keras_version", version);
    const root = file.create_group("model_weights");
    for (const { config, weights = {} } of layers) {
      const group = root.create_group(config.name);
      const names = Object.keys(weights).map((name) => `${config.name}/${name}:0`);
      if (names.length > 0) group.create_attribute("weight_names", names);
      group.create_group(config.name);
      for (const [i, weight] of Object.values(weights).entries()) addDataset(group, names[i]!, weight);
    }
  });
}

/** A file in the HDF5 library's own memory, as bytes. */
export async function h5File(write: (file: h5.File) => void): Promise<Uint8Array> {
  const { FS } = await h5.ready;
  const path = "/fixture.h5";
  const file = new h5.File(path, "w");
  try {
    write(file);
  } finally {
    file.close();
  }
  const bytes = FS.readFile(path).slice();
  FS.unlink(path);
  return bytes;
}

/** Adds a float32 dataset under a path whose groups are made on the way. */
export function addDataset(group: h5.Group, path: string, weight: Tensor): void {
  const parts = path.split("/");
  let at = group;
  for (const part of parts.slice(0, -1)) at = (at.get(part) as h5.Group | null) ?? at.create_group(part);
  at.create_dataset({ name: parts.at(-1)!, data: toFloat32(weight).slice(), shape: [...weight.shape], dtype: "<f" });
}

/** A chain of layers as Keras 2 describes it. */
export function sequential(shape: readonly (number | null)[], layers: readonly TestLayer[]): unknown {
  const input = {
    class_name: "InputLayer",
    config: { name: "image", batch_input_shape: [null, ...shape], dtype: "float32" },
  };
  const plain = layers.map(({ class_name, config, module }) => ({ class_name, config, ...(module && { module }) }));
  return { class_name: "Sequential", config: { name: "net", layers: [input, ...plain] } };
}

/** A `.keras` archive of an architecture and weights by their paths. */
export async function kerasArchive(
  architecture: unknown,
  weights: Readonly<Record<string, Tensor>>,
): Promise<Uint8Array> {
  const text = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
  const file = await h5File((root) => {
    for (const [path, weight] of Object.entries(weights)) addDataset(root, path, weight);
  });
  return zipSync({
    "metadata.json": text({ keras_version: "3.15.1" }),
    "config.json": text(architecture),
    "model.weights.h5": file,
  });
}

/** Normal numbers, always the same. */
export function noise(shape: readonly number[], seed = 1): Tensor {
  const stream = random(seed);
  const size = shape.reduce((a, b) => a * b, 1);
  return float32(
    shape,
    Float32Array.from({ length: size }, () => stream.normal()),
  );
}
