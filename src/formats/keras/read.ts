import { strFromU8, unzipSync } from "fflate";
import { fail, messageOf } from "../../errors.ts";
import { type Graph, makeGraph, makeNode, type Node, type Value } from "../../graph/graph.ts";
import { type ByteSource, memorySource } from "../source.ts";
import { type ModelSpec, parseModel } from "./architecture.ts";
import { type Builder, builder, type KerasTensor } from "./builder.ts";
import { type Hdf5, isHdf5, openHdf5 } from "./hdf5.ts";
import { namedWeights, numberedWeights, type WeightSource } from "./weights.ts";
import { writeModel } from "./write.ts";

/** Choices for {@link readKeras}. */
export interface KerasOptions {
  /**
   * The order of the axes of image inputs: "keras" (channels last, as the model was trained with) by default;
   * "channels-first" spares the Transpose behind the input.
   */
  readonly layout?: "keras" | "channels-first";
}

/** Whether a file is one that {@link readKeras} reads: HDF5, or a zip archive. */
export function isKeras(source: ByteSource): boolean {
  return isZip(source) || isHdf5(source);
}

function isZip(source: ByteSource): boolean {
  return source.size >= 4 && source.read(0, 4).join() === "80,75,3,4";
}

/**
 * Reads a model that Keras saved: `.h5` (Keras 2 and 3) or `.keras` (Keras 3), Sequential or Functional. Weights stay in
 * an `.h5` file until they are asked for; an archive is unpacked into memory. Convolutions and what stands between them
 * work on channels-first tensors, as ONNX wants them.
 *
 * @throws PareError naming the layer that is not supported; where the file is damaged; where h5wasm is not installed
 */
export async function readKeras(source: ByteSource, options: KerasOptions = {}): Promise<Graph> {
  const stored = isZip(source) ? await openArchive(source) : await openModel(source);
  try {
    return importModel(source.name, stored, options);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return fail(source.name, `its architecture can't be read (${error.message})`, "It is damaged", error);
  }
}

interface Stored {
  readonly architecture: unknown;
  readonly version: string;
  readonly weights: WeightSource;
}

/** A whole model in an HDF5 file. */
async function openModel(source: ByteSource): Promise<Stored> {
  const file = await openHdf5(source);
  const text = file.texts("/", "model_config")?.[0];
  if (text === undefined) {
    const hint = "Save the whole model: model.save('model.h5')";
    fail(source.name, "it holds no Keras architecture (attribute 'model_config')", hint);
  }
  const root = file.has("/model_weights") ? "/model_weights" : "";
  const version = file.texts("/", "keras_version")?.[0] ?? file.texts(root || "/", "keras_version")?.[0] ?? "2";
  return { architecture: parseJson(source.name, text), version, weights: namedWeights(file, root) };
}

const parts = ["config.json", "metadata.json", "model.weights.h5"];
/** Far above any model; keeps a small archive from unpacking into all of memory. */
const maxPart = 2 ** 33;

/** A `.keras` archive: the architecture, and an HDF5 file of the weights. */
async function openArchive(source: ByteSource): Promise<Stored> {
  let files: Record<string, Uint8Array>;
  try {
    const filter = ({ name, originalSize }: { name: string; originalSize: number }): boolean =>
      parts.includes(name) && originalSize <= Math.min(maxPart, 1040 * source.size);
    files = unzipSync(source.read(0, source.size), { filter });
  } catch (error) {
    return fail(source.name, `it is not a readable zip archive (${messageOf(error)})`, "It is damaged", error);
  }
  const part = (name: string): Uint8Array =>
    files[name] ?? fail(source.name, `it lacks '${name}', so it is no Keras archive`, "Save it with model.save()");
  const metadata = parseJson(source.name, files["metadata.json"] ? strFromU8(files["metadata.json"]) : "{}");
  const version = (metadata as { readonly keras_version?: unknown } | null)?.keras_version ?? "3";
  const file: Hdf5 = await openHdf5(memorySource(part("model.weights.h5"), `${source.name}: model.weights.h5`));
  const architecture = parseJson(source.name, strFromU8(part("config.json")));
  return { architecture, version: String(version), weights: numberedWeights(file) };
}

function parseJson(who: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    return fail(who, `its architecture is not JSON (${messageOf(error)})`, "It is damaged", error);
  }
}

function importModel(who: string, { architecture, version, weights }: Stored, options: KerasOptions): Graph {
  const model = parseModel(who, architecture);
  const b = builder();
  const keras = Number.parseInt(version, 10) || 2;
  const channelsFirst = options.layout === "channels-first";
  const made = writeModel({ b, who, keras, channelsFirst, nested: { calls: 0 } }, model, weights).map(b.plain);
  const { nodes, outputs } = nameOutputs(b, model, made);
  return makeGraph({
    name: model.name,
    nodes,
    inputs: b.inputs,
    outputs,
    weights: b.weights,
    metadata: { "keras.version": version },
  });
}

/** The model's outputs under the names of the layers that make them. */
function nameOutputs(
  b: Builder,
  { outputs }: ModelSpec,
  made: readonly KerasTensor[],
): { readonly nodes: readonly Node[]; readonly outputs: readonly Value[] } {
  const taken = new Set([...b.inputs.map(({ name }) => name), ...b.weights.keys()]);
  const renamed = new Map<string, string>();
  const copies: [from: string, to: string][] = [];
  const values = made.map(({ value, shape, dtype }, i): Value => {
    const stem = outputs[i]!.layer;
    let name = stem;
    for (let k = 1; taken.has(name); k++) name = `${stem}_${k}`;
    taken.add(name);
    const isInput = b.inputs.some((input) => input.name === value);
    if (isInput || renamed.has(value)) copies.push([renamed.get(value) ?? value, name]);
    else renamed.set(value, name);
    return {
      name,
      type: { kind: "tensor", dtype, shape: shape.map((size, axis) => size ?? (axis === 0 ? "N" : null)) },
    };
  });
  const rename = (name: string): string => renamed.get(name) ?? name;
  const nodes = b.nodes.map((node) => ({
    ...node,
    inputs: node.inputs.map(rename),
    outputs: node.outputs.map(rename),
  }));
  const identities = copies.map(([from, to]) => makeNode("Identity", [from], [to]));
  return { nodes: [...nodes, ...identities], outputs: values };
}
