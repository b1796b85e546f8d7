import { type Graph, isNode, type Node, nodeLabel, opKey } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import type { ObservedType } from "../../platform/observe.ts";
import { toFloat32 } from "../../tensor/tensor.ts";
import { constantMatrix } from "../channel-scaling/places.ts";
import { rules } from "./rules.ts";

/** A constant whose vectors along an axis are rotated, for one of its readers. */
export interface Place {
  readonly name: string;
  readonly reader: Node;
  readonly axis: number;
}

/** A node that has to read the value as it was before. */
export interface Cut {
  readonly node: Node;
  readonly input: number;
}

/** Values that hold the same channels, can be rotated together, and what makes up for it. */
export interface Stream {
  readonly size: number;
  readonly places: readonly Place[];
  readonly cuts: readonly Cut[];
  /** Whether the mean over the channels is taken, or a number added to all of them. */
  readonly keepsMean: boolean;
}

/** Streams of a graph, and what stands against rotating others. */
export interface StreamSurvey {
  readonly streams: readonly Stream[];
  readonly refused: readonly { readonly node: Node; readonly reason: string }[];
}

export type Types = ReadonlyMap<string, ObservedType>;

/** So many products are put in at most, for normalizations whose scales can't be moved into what reads them. */
const mostCuts = 2;

/** The residual streams of a graph: what sums of two values of the same shape hold, and all that is tied to it. */
export function residualStreams(graph: Graph, types: Types): StreamSurvey {
  const streams: Stream[] = [];
  const refused: { node: Node; reason: string }[] = [];
  const seen = new Set<string>();
  for (const node of graph.nodes) {
    const value = seedOf(graph, types, node);
    if (value === undefined || seen.has(value)) continue;
    const walk = new Walk(graph, types, value);
    const found = walk.run();
    for (const name of walk.rotated.keys()) seen.add(name);
    if ("reason" in found) {
      if (!refused.some(({ node, reason }) => node === found.node && reason === found.reason)) refused.push(found);
    } else streams.push(found);
  }
  return { streams, refused };
}

/** The sum that a node makes of a value and what a layer adds to it. */
function seedOf(graph: Graph, types: Types, node: Node): string | undefined {
  if (opKey(node).startsWith("com.microsoft:Skip")) return node.inputs[0];
  if (!isNode(node, "Add") || node.inputs.some((name) => graph.weights.has(name))) return undefined;
  const [a, b] = node.inputs.map((name) => types.get(name)?.shape);
  if (!a || !b || a.length < 2 || a.join() !== b.join()) return undefined;
  return node.inputs.some((name) => isLayerOutput(graph, name)) ? node.outputs[0] : undefined;
}

/** Whether a value is what a product or a convolution with constants gives, but for biases and shapes. */
function isLayerOutput(graph: Graph, name: string): boolean {
  const node = links(graph).producer.get(name);
  if (node?.domain !== "") return false;
  if (["Reshape", "Transpose", "Identity", "Dropout"].includes(node.op)) return isLayerOutput(graph, node.inputs[0]!);
  const [x, w] = node.inputs as [string, string];
  if (node.op === "Add" && graph.weights.has(w)) return isLayerOutput(graph, x);
  if (node.op === "Add" && graph.weights.has(x)) return isLayerOutput(graph, w);
  return constantMatrix(graph, node) !== undefined || (node.op === "Conv" && graph.weights.has(w));
}

/** One walk over all that a value is tied to. Axes are counted from the end, 0 being the last. */
export class Walk {
  readonly graph: Graph;
  readonly types: Types;
  readonly size: number;
  /** Axis of the channels of each value that is rotated. */
  readonly rotated = new Map<string, number>();
  keepsMean = false;
  readonly #places = new Map<string, Place>();
  readonly #cuts = new Map<string, Cut>();
  readonly #pending: Node[] = [];
  #reads = false;
  #makes = false;
  #reason: { node: Node; reason: string } | undefined;
  #at: Node;

  constructor(graph: Graph, types: Types, seed: string) {
    this.graph = graph;
    this.types = types;
    this.#at = links(graph).producer.get(seed) ?? graph.nodes[0]!;
    this.size = types.get(seed)?.shape.at(-1) ?? 0;
    this.mark(seed, 0);
  }

  run(): Stream | { node: Node; reason: string } {
    for (let node = this.#pending.pop(); node && !this.#reason; node = this.#pending.pop()) {
      this.#at = node;
      const rule = rules[opKey(node)];
      const reason = rule
        ? rule(this, node)
        : `'${nodeLabel(node)}' (${node.op}) mixes its channels in a way of its own`;
      if (reason) this.refuse(reason);
    }
    if (!this.#reason && !(this.#reads && this.#makes)) this.refuse("no products make and read it");
    if (!this.#reason && this.#cuts.size > mostCuts) {
      this.refuse(`${this.#cuts.size} normalizations have scales that can't be moved into what reads them`);
    }
    if (this.#reason) return this.#reason;
    const { size, keepsMean } = this;
    return { size, keepsMean, places: [...this.#places.values()], cuts: [...this.#cuts.values()] };
  }

  refuse(reason: string): void {
    this.#reason ??= { node: this.#at, reason };
  }

  /** States that a value's channels, along an axis, are rotated. */
  mark(value: string, axis: number): void {
    if (this.rotated.get(value) === axis) return;
    const reason = this.#obstacle(value, axis);
    if (reason) {
      this.refuse(reason);
      return;
    }
    const { producer, consumers } = links(this.graph);
    this.rotated.set(value, axis);
    this.#pending.push(producer.get(value)!, ...(consumers.get(value) ?? []));
  }

  #obstacle(value: string, axis: number): string | undefined {
    const { producer, outputs } = links(this.graph);
    if (this.rotated.has(value)) return `'${value}' has its channels along two axes`;
    if (this.dim(value, axis) !== this.size) return `'${value}' has not ${this.size} channels`;
    if (!producer.has(value)) return `'${value}' comes from outside`;
    return outputs.has(value) ? `'${value}' is an output of the model` : undefined;
  }

  /** The axis of a value's channels if it is rotated. */
  axis(value: string | undefined): number | undefined {
    return value === undefined ? undefined : this.rotated.get(value);
  }

  /** The size of an axis; 1 where the value has fewer. */
  dim(value: string, axis: number): number {
    const { shape } = this.graph.weights.get(value) ?? this.types.get(value) ?? {};
    return shape?.[shape.length - 1 - axis] ?? 1;
  }

  isConstant(value: string): boolean {
    return this.graph.weights.has(value);
  }

  /** Whether a constant has the same number everywhere. */
  isUniform(value: string): boolean {
    const weight = this.graph.weights.get(value);
    if (!weight) return false;
    const values = toFloat32(weight);
    return values.every((v) => v === values[0]);
  }

  /** States that a constant is rotated for a reader. */
  place(name: string, reader: Node, axisFromEnd: number, role?: "reads" | "makes"): void {
    const shape = this.graph.weights.get(name)!.shape;
    const axis = shape.length - 1 - axisFromEnd;
    if (shape[axis] !== this.size || this.graph.inputs.some((input) => input.name === name)) {
      this.refuse(`constant '${name}' can't be rotated`);
      return;
    }
    this.#reads ||= role === "reads";
    this.#makes ||= role === "makes";
    this.#places.set(`${name} ${axis} ${nodeLabel(reader)} ${reader.outputs[0]}`, { name, reader, axis });
  }

  /** States that a node reads a rotated value as it was before. */
  cut(node: Node, input: number): void {
    this.#cuts.set(`${node.outputs[0]} ${input}`, { node, input });
  }
}
