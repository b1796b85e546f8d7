import { PareError } from "../errors.ts";
import type { DType } from "../tensor/dtype.ts";
import { stringTensor, type Tensor, tensor } from "../tensor/tensor.ts";
import type { Batch, BatchOptions } from "./dataset.ts";
import type { BatchPlan } from "./plan.ts";
import type { DatasetOptions } from "./source.ts";

/** What the using side of a dataset in another thread asks for. */
export type Request =
  | {
      readonly kind: "open";
      readonly path: string;
      readonly options: Omit<DatasetOptions, "background" | "log" | "tokenize">;
    }
  | {
      readonly kind: "start";
      readonly stream: number;
      readonly what: { batches: BatchOptions } | { planned: BatchPlan };
      /** What was set apart of the dataset that was opened, one after the other. */
      readonly cuts: readonly Cut[];
    }
  | { readonly kind: "more"; readonly stream: number }
  | { readonly kind: "stop"; readonly stream: number };

/** Arguments of {@link Dataset.holdOut}. */
export interface Cut {
  readonly split: string;
  readonly share: number;
  readonly seed: number;
}

/** What the thread answers; the opening is the stream {@link opening}. */
export type Answer =
  | { readonly kind: "log"; readonly message: string }
  | { readonly kind: "opened"; readonly stream: typeof opening; readonly facts: DatasetFacts }
  | { readonly kind: "batch"; readonly stream: number; readonly batch: WireBatch }
  | { readonly kind: "done"; readonly stream: number }
  | { readonly kind: "failed"; readonly stream: number; readonly error: WireError };

/** Stands for the opening where a stream is named. */
export const opening = -1;

/** What is known of a dataset without reading samples. */
export interface DatasetFacts {
  readonly name: string;
  /** Samples in each split, the default one first. */
  readonly sizes: readonly (readonly [split: string, size: number | undefined])[];
  readonly classes?: readonly string[];
  /** Whether a share of its samples can be set apart. */
  readonly divisible: boolean;
}

/** Batches that a thread makes before they are asked for: one to be taken, one in reserve for a slow read. */
export const madeAhead = 2;

type WireTensor =
  | { readonly dtype: DType; readonly shape: readonly number[]; readonly data: Uint8Array<ArrayBuffer> }
  | { readonly strings: readonly (string | Uint8Array)[]; readonly shape: readonly number[] };

interface WireBatch extends Omit<Batch, "inputs" | "labels"> {
  readonly inputs: readonly (readonly [name: string, tensor: WireTensor])[];
  readonly labels?: WireTensor;
}

interface WireError {
  readonly message: string;
  /** Whether the user can fix it. */
  readonly told: boolean;
  readonly stack?: string;
}

/** A batch as a message, with the buffers to move: copies, since a reader may yield its own memory again. */
export function packBatch(batch: Batch): { readonly packed: WireBatch; readonly moved: ArrayBuffer[] } {
  const moved: ArrayBuffer[] = [];
  const pack = ({ dtype, shape, strings, bytes }: Tensor): WireTensor => {
    if (strings) return { strings, shape };
    const data = bytes().slice();
    moved.push(data.buffer);
    return { dtype, shape, data };
  };
  const { inputs, labels, ...rest } = batch;
  const packed = {
    ...rest,
    inputs: Object.entries(inputs).map(([name, t]) => [name, pack(t)] as const),
    ...(labels && { labels: pack(labels) }),
  };
  return { packed, moved };
}

/** The batch of a message. */
export function unpackBatch({ inputs, labels, ...rest }: WireBatch): Batch {
  const unpack = (t: WireTensor): Tensor =>
    "strings" in t ? stringTensor(t.shape, t.strings) : tensor(t.dtype, t.shape, t.data);
  return {
    ...rest,
    inputs: Object.fromEntries(inputs.map(([name, t]) => [name, unpack(t)])),
    ...(labels && { labels: unpack(labels) }),
  };
}

/** An error as a message. */
export function packError(error: unknown): WireError {
  const told = error instanceof PareError;
  if (!(error instanceof Error)) return { message: String(error), told };
  return { message: error.message, told, ...(error.stack !== undefined && { stack: error.stack }) };
}

/** The error of a message. */
export function unpackError({ message, told, stack }: WireError): Error {
  if (told) return new PareError(message);
  const error = new Error(message);
  if (stack !== undefined) error.stack = stack;
  return error;
}
