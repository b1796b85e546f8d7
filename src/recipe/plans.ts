import type { Graph } from "../graph/graph.ts";
import { allNodes } from "../graph/walk.ts";
import { techniques } from "../techniques/index.ts";
import type { Step } from "../techniques/technique.ts";

/** Steps that compress may apply after `simplify`. */
export interface Plan {
  readonly name: string;
  readonly steps: readonly PlanStep[];
}

/** A technique's name with options, unbound so that nodes can still be excluded. */
export type PlanStep = readonly [technique: string, options: Readonly<Record<string, unknown>>];

/** What decides whether a plan is worth trying. */
interface Traits {
  readonly convolutions: boolean;
  readonly products: boolean;
  readonly recurrent: boolean;
  readonly embeddings: boolean;
  /** There is data to calibrate with. */
  readonly data: boolean;
}

interface PlanRow extends Plan {
  suits(traits: Traits): boolean;
}

const dense = ["MatMul", "Gemm"];
const recurrent = ["LSTM", "GRU", "RNN"];

/** Every plan, the most rewarding first: a time limit cuts the list from its end. */
const rows: readonly PlanRow[] = [
  {
    name: "int8",
    steps: [["quantize-static", {}]],
    suits: ({ data, convolutions, products }) => data && (convolutions || products),
  },
  {
    name: "int8 everywhere",
    steps: [["quantize-static", { target: "size" }]],
    suits: ({ data, convolutions, products }) => data && (convolutions || products),
  },
  {
    name: "int8, dynamic",
    steps: [["quantize-dynamic", {}]],
    suits: ({ products, recurrent }) => products || recurrent,
  },
  {
    name: "int8 convolutions, dynamic products",
    steps: [
      ["quantize-static", { exclude: dense }],
      ["quantize-dynamic", { exclude: ["Conv"] }],
    ],
    suits: ({ data, convolutions, products, recurrent }) => data && convolutions && (products || recurrent),
  },
  {
    name: "int8, the rest's weights in 8 bits",
    steps: [
      ["quantize-static", {}],
      ["quantize-weights", { bits: 8, granularity: "channel" }],
    ],
    suits: ({ data, convolutions, products, recurrent, embeddings }) =>
      data && (convolutions || products) && (recurrent || embeddings),
  },
  {
    name: "4-bit weights",
    steps: [["quantize-weights", { bits: 4 }]],
    suits: ({ products, embeddings, convolutions }) => products || embeddings || convolutions,
  },
  { name: "8-bit weights", steps: [["quantize-weights", { bits: 8 }]], suits: () => true },
  { name: "3-bit weights", steps: [["quantize-weights", { bits: 3 }]], suits: () => true },
  { name: "fp16", steps: [["convert-float", {}]], suits: () => true },
];

/** The plans that suit a model. */
export function plansFor(graph: Graph, data: boolean): Plan[] {
  const ops = new Set([...allNodes(graph)].map(({ op }) => op));
  const has = (names: readonly string[]): boolean => names.some((name) => ops.has(name));
  const traits: Traits = {
    convolutions: has(["Conv", "ConvTranspose"]),
    products: has([...dense, "Attention"]),
    recurrent: has(recurrent),
    embeddings: has(["Gather"]),
    data,
  };
  return rows.filter((row) => row.suits(traits)).map(({ name, steps }) => ({ name, steps }));
}

/** A plan's steps, with some nodes left in float, or all but some. */
export function bindPlan({ steps }: Plan, exclude: readonly string[] = [], include: readonly string[] = []): Step[] {
  return steps.map(([name, options]) => {
    const technique = techniques[name]!;
    const more = [...((options.exclude ?? []) as readonly string[]), ...exclude];
    return technique({
      ...options,
      ...(more.length > 0 && { exclude: more }),
      ...(include.length > 0 && { include: [...include] }),
    });
  });
}
