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
  /** Record the time of every kernel; read it with {@link Session.profile}. In the browser it can't be had. */
  readonly profile?: boolean;
  /**
   * Whether memory is laid out ahead for runs after the first; true by default. Layouts take a block of their own besides
   * what the first run took, so a session of few runs needs less memory without.
   */
  readonly memoryPattern?: boolean;
  /** Sizes for named free dimensions, so that the runtime can plan memory and fold shapes. */
  readonly dims?: Readonly<Record<string, number>>;
}

/**
 * Time of one kernel, summed over the runs of a profiled session. That of a control-flow node (If, Loop, Scan) includes
 * the kernels of its body, which are listed too.
 */
export interface KernelTime {
  /** The node's name in the optimized graph, which fusions may have changed. */
  readonly node: string;
  readonly op: string;
  readonly provider: string;
  /** Milliseconds over all runs. */
  readonly ms: number;
  /** Milliseconds of the median run, which a machine that was busy for a moment does not move. */
  readonly median: number;
  /** How often the kernel ran: once a run of the session, more in the body of a loop. */
  readonly runs: number;
  /** Bytes of its outputs, the last time it ran. */
  readonly outputBytes: number;
}

/** A model loaded into ONNX Runtime. Owns native memory: release it. */
export interface Session {
  readonly inputs: readonly Value[];
  /** With the types and shapes that the runtime inferred. Outputs of complex or 4-bit float type can't be had: left out. */
  readonly outputs: readonly Value[];
  /**
   * Runs the model.
   *
   * @param feeds every required input
   * @param fetch names of the outputs wanted (all by default), or tensors in memory to write outputs into: their shape
   *   must be the output's
   * @throws PareError with the runtime's message where a feed is missing or misfits, or after the release
   */
  run(feeds: Tensors, fetch?: readonly string[] | Tensors): Promise<Record<string, Tensor>>;
  /**
   * Ends profiling and returns the kernels' times, in the order in which they first finished.
   *
   * @throws PareError if the session was opened without `profile`
   */
  profile(): Promise<readonly KernelTime[]>;
  /** Frees the native memory; a second call does nothing. */
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
