import type { Graph, Value } from "../graph/graph.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** Named tensors: what a model is fed and what it gives. */
export type Tensors = Readonly<Record<string, Tensor>>;

/** How a session is built. */
export interface SessionOptions {
  /** ONNX Runtime's graph optimizations; "all" by default. */
  readonly optimize?: "disabled" | "basic" | "extended" | "all";
  /** Threads inside an operator; the runtime object's own number by default. */
  readonly threads?: number;
  /** Record the time of every kernel; read it with {@link Session.profile}. */
  readonly profile?: boolean;
  /** Sizes for named free dimensions, so that the runtime can plan memory and fold shapes. */
  readonly dims?: Readonly<Record<string, number>>;
}

/** Time of one kernel, summed over the runs of a profiled session. */
export interface KernelTime {
  /** The node's name in the optimized graph, which fusions may have changed. */
  readonly node: string;
  readonly op: string;
  readonly provider: string;
  /** Milliseconds over all runs. */
  readonly ms: number;
  readonly runs: number;
  /** Bytes of the outputs of one run. */
  readonly outputBytes: number;
}

/** A model loaded into ONNX Runtime. Owns native memory: release it. */
export interface Session {
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  /**
   * Runs the model.
   *
   * @param feeds every required input
   * @param fetch names of the outputs wanted (all by default), or tensors in memory to write outputs into: their shape
   *   must be the output's
   * @throws PareError with the runtime's message where a feed is missing or misfits
   */
  run(feeds: Tensors, fetch?: readonly string[] | Tensors): Promise<Record<string, Tensor>>;
  /** Ends profiling and returns the kernels' times, in the order of execution. */
  profile(): Promise<readonly KernelTime[]>;
  release(): Promise<void>;
}

/** An ONNX Runtime on this machine, with a provider and a number of threads chosen. */
export interface Runtime {
  /** "onnxruntime-node 1.30.0". */
  readonly name: string;
  /** Execution provider: "cpu", "cuda", "wasm", "webgpu", ... */
  readonly provider: string;
  readonly threads: number;
  /**
   * Loads a graph, or the bytes of a model file, into a session.
   *
   * @throws PareError with the runtime's message where it refuses the model
   */
  open(model: Graph | Uint8Array, options?: SessionOptions): Promise<Session>;
}
