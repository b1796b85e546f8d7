import { edit } from "../../graph/edit.ts";
import { type Graph, intAttribute, makeNode, type Node } from "../../graph/graph.ts";
import { float32, type Tensor, toFloat32 } from "../../tensor/tensor.ts";
import type { Pair } from "./pairs.ts";

/**
 * Multiplies the channels between convolutions in the first of them and divides them in those that read it.
 *
 * @param scales positive, one an output of the producer
 * @param clips what becomes of a Clip between them: it stays, or bounds each channel where the scaled bound is,
 *   `Clip -> Relu -> Min`
 */
export function rescaled(graph: Graph, scales: ReadonlyMap<Pair, Float64Array>, clips: "keep" | "min" = "keep"): Graph {
  const rows = new Map<Node, Float64Array>();
  const columns = new Map<Node, Float64Array>();
  for (const [{ producer, consumers }, own] of scales) {
    rows.set(producer, own);
    for (const consumer of consumers) columns.set(consumer, own);
  }
  return edit(graph, (draft) => {
    for (const node of new Set([...rows.keys(), ...columns.keys()])) {
      const [, w, b] = node.inputs;
      draft.weights.set(w!, scaledWeight(node, graph.weights.get(w!)!, rows.get(node), columns.get(node)));
      const up = rows.get(node);
      if (!b || !up) continue;
      const bias = toFloat32(graph.weights.get(b)!).map((v, c) => v * up[c]!);
      const name = draft.constant(`${b}_equalized`, float32([bias.length], bias));
      draft.replace(node, { ...node, inputs: [node.inputs[0]!, w!, name] });
    }
    if (clips === "keep") return;
    for (const [{ producer, clips: found }, own] of scales) {
      const spatial = graph.weights.get(producer.inputs[1]!)!.shape.slice(2);
      for (const [node, bound] of found) {
        const [x, y] = [node.inputs[0]!, node.outputs[0]!];
        const bounds = float32(
          [own.length, ...spatial.map(() => 1)],
          Float32Array.from(own, (k) => k * bound),
        );
        const positive = draft.fresh(`${y}_positive`);
        draft.replace(
          node,
          makeNode("Relu", [x], [positive], {}, draft.fresh(`${node.name || y}_Relu`)),
          makeNode("Min", [positive, draft.constant(`${y}_bounds`, bounds)], [y], {}, node.name),
        );
      }
    }
  });
}

/** Visits the elements of a convolution's weight: their place, output and input channel. */
export function visitWeight(
  node: Node,
  { shape }: Tensor,
  visit: (at: number, output: number, input: number) => void,
): void {
  const [outs, perGroup] = [shape[0]!, shape[1]!];
  const taps = shape.slice(2).reduce((a, b) => a * b, 1);
  const groupOuts = outs / intAttribute(node, "group", 1);
  for (let o = 0, at = 0; o < outs; o++) {
    const from = Math.floor(o / groupOuts) * perGroup;
    for (let i = from; i < from + perGroup; i++) for (const end = at + taps; at < end; at++) visit(at, o, i);
  }
}

function scaledWeight(node: Node, weight: Tensor, rows?: Float64Array, columns?: Float64Array): Tensor {
  const out = Float32Array.from(toFloat32(weight));
  visitWeight(node, weight, (at, o, i) => {
    out[at]! *= (rows?.[o] ?? 1) / (columns?.[i] ?? 1);
  });
  return float32(weight.shape, out);
}
