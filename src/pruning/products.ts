import { intAttribute, type Node, opKey } from "../graph/graph.ts";
import type { Couplings, Group, Place } from "./couplings.ts";

/** A layer that sums its input's channels, weighted by a constant: y = W x. */
export interface Product {
  readonly node: Node;
  /** The input, and its axis that is summed over. */
  readonly x: string;
  readonly channels: number;
  readonly weight: string;
  /** Axis of the weight's inputs; of a convolution those of one group. */
  readonly inputs: number;
  /** Axis of the output's channels. */
  readonly outputs: number;
}

/** The convolutions and matrix products of a graph whose weights are constants. */
export function productsOf({ graph, structure }: Couplings): readonly Product[] {
  return graph.nodes.flatMap((node) => {
    const [x, weight] = node.inputs;
    const shape = weight ? structure.constantOf(weight)?.shape : undefined;
    const rank = x ? structure.types.get(x)?.shape.length : undefined;
    if (!x || !weight || !shape || rank === undefined) return [];
    switch (opKey(node)) {
      case "Conv":
        return [{ node, x, weight, channels: 1, inputs: 1, outputs: 1 }];
      case "ConvTranspose":
        return [{ node, x, weight, channels: 1, inputs: 0, outputs: 1 }];
      case "Gemm": {
        const [transA, transB] = [intAttribute(node, "transA", 0), intAttribute(node, "transB", 0)];
        return [{ node, x, weight, channels: transA ? 0 : 1, inputs: transB ? 1 : 0, outputs: 1 }];
      }
      case "MatMul":
        if (shape.length !== 2 || rank < 2) return [];
        return [{ node, x, weight, channels: rank - 1, inputs: 0, outputs: rank - 1 }];
      default:
        return [];
    }
  });
}

/**
 * The weights of a group that make its units, as against those that read them: matrices and kernels along whose axis no
 * product is summed. Empty where nothing but normalizations and lookups makes them.
 */
export function producers(group: Group, products: readonly Product[]): readonly Place[] {
  const making = new Set(
    products.flatMap(({ node, weight, inputs }) => {
      const depthwise = node.op === "Conv" && intAttribute(node, "group", 1) > 1;
      const axes =
        node.op === "ConvTranspose" && intAttribute(node, "group", 1) > 1 ? [0, 1] : [depthwise ? 0 : 1 - inputs];
      return axes.map((axis) => `${weight} ${axis}`);
    }),
  );
  return group.members.filter(({ name, axis }) => making.has(`${name} ${axis}`));
}

/** Whether each output of a layer is made of one channel alone, so that the two go together. */
export function isDepthwise({ node, weight, inputs }: Product, { structure }: Couplings): boolean {
  if (node.op !== "Conv" && node.op !== "ConvTranspose") return false;
  const shape = structure.constantOf(weight)!.shape;
  const groups = intAttribute(node, "group", 1);
  return groups > 1 && shape[inputs]! / (node.op === "Conv" ? 1 : groups) === 1;
}

/** The weights of a group by whose products its units reach the rest of the network. */
export function readers(found: Couplings, group: Group, products: readonly Product[]): readonly Place[] {
  const reading = new Set(
    products.flatMap((product) => (isDepthwise(product, found) ? [] : [`${product.weight} ${product.inputs}`])),
  );
  return group.members.filter(({ name, axis }) => reading.has(`${name} ${axis}`));
}

/** The inputs of products that hold a group's units. */
export function consumedPlaces(found: Couplings, group: Group, products: readonly Product[]): readonly Place[] {
  const read = new Set(products.map(({ x, channels }) => `${x} ${channels}`));
  return found.activations(group).filter(({ name, axis }) => read.has(`${name} ${axis}`));
}
