import { type Draft, edit } from "../../graph/edit.ts";
import { type Graph, isNode, makeNode, type Node } from "../../graph/graph.ts";
import { links } from "../../graph/walk.ts";
import type { Random } from "../../random.ts";
import type { DType } from "../../tensor/dtype.ts";
import { floatToHalf } from "../../tensor/half.ts";
import { type Tensor, tensor } from "../../tensor/tensor.ts";
import { matrixOf, type Rotation, randomRotation, rotatedAlong } from "./rotation.ts";
import type { Place, Stream, Types } from "./stream.ts";

/** Rotates streams: constants that make or read them take the rotation up; where they can't, a product does. */
export function rotateStreams(graph: Graph, streams: readonly Stream[], types: Types, random: Random): Graph {
  return edit(graph, (draft) => {
    /** Inputs of nodes as they become, for all streams together. */
    const inputs = new Map<Node, string[]>();
    const read = (node: Node, from: string, to: string): void => {
      const own = inputs.get(node) ?? [...node.inputs];
      inputs.set(
        node,
        own.map((name) => (name === from ? to : name)),
      );
    };
    for (const [index, stream] of streams.entries()) {
      const rotation = randomRotation(stream.size, random.fork(`stream ${index}`), stream.keepsMean);
      const constant = constantMaker(draft, rotation, types);
      rotateConstants(draft, stream, rotation, read, (value) => constant(value, false));
      const back = new Map<string, string>();
      for (const { node, input } of stream.cuts) {
        const value = node.inputs[input]!;
        const made = back.get(value) ?? draft.emit("MatMul", [value, constant(value, true)], {}, 1, `${value}_back`);
        back.set(value, made);
        read(node, value, made);
      }
    }
    for (const [node, own] of inputs) draft.replace(node, { ...node, inputs: own });
  });
}

/** Gives R or its transpose as a constant of a value's type, each once. */
function constantMaker(draft: Draft, rotation: Rotation, types: Types): (value: string, transposed: boolean) => string {
  const known = new Map<string, string>();
  return (value, transposed) => {
    const { dtype } = types.get(value)!;
    const key = `${dtype} ${transposed}`;
    const made =
      known.get(key) ?? draft.constant("rotation", constantOf(matrixOf(rotation, transposed), rotation.size, dtype));
    known.set(key, made);
    return made;
  };
}

function constantOf(values: Float32Array, size: number, dtype: DType): Tensor {
  return tensor(dtype, [size, size], dtype === "float16" ? floatToHalf(values, dtype) : values);
}

/**
 * Constants that are no outputs, and that all their readers see rotated alike, change in place; of others the readers get
 * copies, lookups a product.
 */
function rotateConstants(
  draft: Draft,
  { places }: Stream,
  rotation: Rotation,
  read: (node: Node, from: string, to: string) => void,
  matrixFor: (value: string) => string,
): void {
  const graph = draft.before;
  const { consumers, outputs } = links(graph);
  for (const [name, all] of grouped(places, (place) => place.name)) {
    const byReader = grouped(all, ({ reader }) => reader);
    const axesOf = (own: readonly Place[]): readonly number[] => own.map(({ axis }) => axis).sort();
    const kinds = new Set([...byReader.values()].map((own) => axesOf(own).join()));
    const readers = consumers.get(name) ?? [];
    if (kinds.size === 1 && !outputs.has(name) && readers.every((reader) => byReader.has(reader))) {
      draft.weights.set(name, turned(draft.weights.get(name)!, axesOf(all), rotation));
      continue;
    }
    for (const [reader, own] of byReader) {
      if (!isNode(reader, "Gather")) {
        read(reader, name, draft.constant(`${name}_rotated`, turned(graph.weights.get(name)!, axesOf(own), rotation)));
        continue;
      }
      const [value] = reader.outputs as [string];
      const plain = draft.fresh(`${value}_plain`);
      draft.replace(reader, { ...reader, outputs: [plain] });
      draft.add(makeNode("MatMul", [plain, matrixFor(value)], [value]));
    }
  }
}

function turned(value: Tensor, axes: readonly number[], rotation: Rotation): Tensor {
  return [...new Set(axes)].reduce((made, axis) => rotatedAlong(made, axis, rotation), value);
}

function grouped<T, K>(values: readonly T[], keyOf: (value: T) => K): ReadonlyMap<K, readonly T[]> {
  const groups = new Map<K, T[]>();
  for (const value of values) groups.set(keyOf(value), [...(groups.get(keyOf(value)) ?? []), value]);
  return groups;
}
