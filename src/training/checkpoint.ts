import { fail } from "../errors.ts";
import { encodeOnnx, readOnnx } from "../formats/onnx/index.ts";
import { memorySource } from "../formats/source.ts";
import { makeGraph } from "../graph/graph.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** Where checkpoints are kept. Writes are atomic: a reader sees the old bytes or the new ones. */
export interface CheckpointStore {
  /** Where it is, for messages. */
  readonly name?: string;
  read(name: string): Promise<Uint8Array | undefined>;
  write(name: string, bytes: Uint8Array): Promise<void>;
}

/** The part of a store whose names begin with a prefix: several runs keep their checkpoints side by side. */
export function within(store: CheckpointStore, prefix: string): CheckpointStore {
  return {
    ...(store.name !== undefined && { name: store.name }),
    read: (name) => store.read(`${prefix}-${name}`),
    write: (name, bytes) => store.write(`${prefix}-${name}`, bytes),
  };
}

/** A run at one moment. */
export interface Checkpoint {
  /** What the run is a run of: model, data, options. A checkpoint of another is refused. */
  readonly run: string;
  /** Steps that are done. */
  readonly step: number;
  readonly state: ReadonlyMap<string, Tensor>;
  /** Everything else that the rest of the run depends on, as JSON. */
  readonly progress: unknown;
}

const key = "pare.checkpoint";

/** A checkpoint as bytes: an ONNX file without nodes whose weights are the state. */
export function encodeCheckpoint({ run, step, state, progress }: Checkpoint): Uint8Array {
  const metadata = { [key]: JSON.stringify({ run, step, progress }) };
  return encodeOnnx(
    makeGraph({ name: "checkpoint", nodes: [], inputs: [], outputs: [], weights: new Map(state), metadata }),
  );
}

/**
 * Reads a checkpoint back.
 *
 * @throws PareError where the bytes are damaged or something else
 */
export function decodeCheckpoint(bytes: Uint8Array, name: string): Checkpoint {
  const { weights, metadata } = readOnnx(memorySource(bytes, name));
  const text = metadata[key] ?? fail(name, "is not a checkpoint", "Remove it to start anew");
  const { run, step, progress } = JSON.parse(text) as { run: string; step: number; progress: unknown };
  return { run, step, state: weights, progress };
}
