import { z } from "zod";
import { mapBodies, typesOf } from "../../analysis/bodies.ts";
import type { InferredType } from "../../analysis/infer.ts";
import { fail, messageOf, PareError } from "../../errors.ts";
import { withoutDefaultInputs } from "../../graph/defaults.ts";
import { type Graph, isNode, type Node, nodeLabel, opKey, stringAttribute, subgraphsOf } from "../../graph/graph.ts";
import { reads } from "../../graph/walk.ts";
import { withIrVersion } from "../../ops/convert.ts";
import type { Tensors } from "../../platform/runtime.ts";
import type { DType } from "../../tensor/dtype.ts";
import { constantValue, hoistConstants } from "../hoist-constants.ts";
import { selectionOptions, selector } from "../selection.ts";
import { type Context, technique } from "../technique.ts";
import { castTensor, type FloatType, largestHalf, magnitudes } from "./cast.ts";
import { convertGraph } from "./convert.ts";
import { blockedOperators, halfOperators, isMask } from "./operators.ts";
import { compareRuns, feedsFor, observedMagnitudes } from "./ranges.ts";
import { storeConverted } from "./storage.ts";

const options = z.object({
  ...selectionOptions,
  to: z.enum(["float16", "bfloat16", "float32"]).default("float16").describe("the new float type"),
  storage: z
    .boolean()
    .default(false)
    .describe("only store weights in the new type, with a cast in front of their readers: half the file, same speed"),
  io: z
    .enum(["keep", "convert"])
    .default("keep")
    .describe("whether inputs and outputs keep their type, with casts inside, or take the new one"),
  block: z
    .array(z.string())
    .default([...blockedOperators])
    .describe("operator types that stay as they are"),
  min: z.number().min(0).default(1e-7).describe("smaller float16 weights other than 0 are raised to this magnitude"),
  max: z
    .number()
    .positive()
    .max(largestHalf)
    .default(1e4)
    .describe("constants of masks (added, compared, selected) beyond float16's range are cut to this magnitude"),
  margin: z
    .number()
    .min(0)
    .max(1)
    .default(0.25)
    .describe("share of float16's range that observed activations may use; a node with larger ones is left alone"),
  samples: z.number().int().positive().default(32).describe("samples of the data on which activations are observed"),
});

type Options = z.output<typeof options>;

/**
 * Half the bytes: weights and arithmetic in float16 (range 65504, 11 bits) or bfloat16 (range of float32, 8 bits), or
 * back to float32.
 *
 * `x -> Conv(w) -> y` => `x -> Cast -> Conv(w16) -> Cast -> y`, casts only where types meet. Nodes stay in float32 that
 * have no float16 form, whose weights or observed activations leave its range, or that lose too much (`block`). The
 * result is run before it is handed out. onnxruntime's CPU provider computes float16 in float32 behind casts of its own
 * and has no bfloat16 kernels: there, `storage` is the fast form, and the one bfloat16 falls back to.
 */
export const convertFloat = technique({
  name: "convert-float",
  summary: "Convert weights and arithmetic to float16 or bfloat16, or back to float32, with range checks.",
  options,
  data: "optional",
  identity: { exclude: ["*"] },
  applies,
  async apply(original, given, context) {
    checkOpset(original, given.to);
    const graph = withoutDefaultInputs(original);
    const from: ReadonlySet<DType> = new Set<DType>(given.to === "float32" ? ["float16", "bfloat16"] : ["float32"]);
    if (given.storage) return stored(graph, given, from, context);
    const feeds = await feedsFor(graph, context, given.samples);
    const observed = given.to === "float16" && feeds ? await observedMagnitudes(graph, context, feeds) : new Map();
    const result = await untilAccepted(graph, given, from, observed, context);
    if (result === "refused") {
      context.log(
        `${context.runtime.name} on ${context.runtime.provider} can't compute in ${given.to}: stored in it only`,
      );
      return stored(graph, given, from, context);
    }
    if (feeds?.[0] && result !== graph) await verify(graph, result, given, context, feeds[0]);
    return result;
  },
});

function checkOpset(graph: Graph, to: FloatType): void {
  const opset = graph.opsets[""] ?? 0;
  const needed = to === "bfloat16" ? 13 : 6;
  if (opset < needed) {
    fail(
      "convert-float",
      `${to} needs ONNX operator set ${needed}, the model uses ${opset}`,
      "Convert the model first",
    );
  }
}

/** Converts, and leaves out what the runtime blames in refusing the result, until it takes it. */
async function untilAccepted(
  graph: Graph,
  given: Options,
  from: ReadonlySet<DType>,
  observed: ReadonlyMap<string, number>,
  context: Context,
): Promise<Graph | "refused"> {
  const refused = new Map<string, string>();
  for (;;) {
    const settings: Settings = { given, from, observed, context, refused, skips: new Map() };
    const result = await converted(graph, settings, given.io === "convert");
    const problem = result === graph ? undefined : await refusal(result, context);
    if (problem === undefined) {
      for (const [label, reason] of settings.skips) context.skip(label, reason);
      return result;
    }
    if (given.to === "bfloat16") return "refused";
    const culprit = culpritOf(graph, problem);
    if (culprit === undefined || refused.has(culprit)) {
      fail("convert-float", problem, "Try `storage: true`, which every runtime reads");
    }
    refused.set(culprit, `${context.runtime.provider} has no ${given.to} kernel for it`);
  }
}

/** The node, or else the operator, that the runtime's message blames. */
function culpritOf(graph: Graph, problem: string): string | undefined {
  const [longest] = graph.nodes
    .map(({ name }) => name)
    .filter((name) => name !== "" && problem.includes(name))
    .toSorted((a, b) => b.length - a.length);
  return longest ?? /implementation for (\w+)\(/.exec(problem)?.[1];
}

async function refusal(graph: Graph, { runtime }: Context): Promise<string | undefined> {
  try {
    await (await runtime.open(graph)).release();
    return undefined;
  } catch (error) {
    if (!(error instanceof PareError)) throw error;
    return messageOf(error);
  }
}

interface Settings {
  readonly given: Options;
  readonly from: ReadonlySet<DType>;
  readonly observed: ReadonlyMap<string, number>;
  readonly context: Context;
  /** Nodes, by name or operator, that must stay as they are, with the reason. */
  readonly refused: ReadonlyMap<string, string>;
  readonly skips: Map<string, string>;
}

async function converted(
  graph: Graph,
  settings: Settings,
  border: boolean,
  foreign: ReadonlySet<string> = new Set(),
): Promise<Graph> {
  const { given, from, context } = settings;
  const hoisted = hoistConstants(graph, 1);
  const local = foreign.size > 0 ? withoutForeign(hoisted, foreign) : hoisted;
  const types = await typesOf(local, context.runtime, context.log);
  const selected = selector(given);
  const inside = await mapBodies(local, types, selected, (body, outer) => converted(body, settings, false, outer));
  const chosen = new Set<Node>();
  for (const node of inside.nodes) {
    if (!touchesFloat(node, types, from)) continue;
    const reason = selected(node) ? reasonAgainst(inside, node, types, settings) : "excluded";
    if (reason === undefined) chosen.add(node);
    else settings.skips.set(nodeLabel(node), reason);
  }
  if (chosen.size === 0 && !border) return inside === local ? graph : inside;
  const clamp = given.to === "float16" ? { min: given.min, max: given.max } : undefined;
  const conversion = { from, to: given.to, types, converted: chosen, border, ...(clamp && { clamp }) };
  return withIrVersion(convertGraph(inside, conversion), 4);
}

/** Weights of the graph around a body as its inputs: they keep their type. */
function withoutForeign(graph: Graph, foreign: ReadonlySet<string>): Graph {
  const weights = new Map(graph.weights);
  const inputs = [...graph.inputs];
  for (const name of foreign) {
    const { dtype, shape } = graph.weights.get(name)!;
    weights.delete(name);
    inputs.push({ name, type: { kind: "tensor", dtype, shape } });
  }
  return { ...graph, weights, inputs };
}

function touchesFloat(node: Node, types: ReadonlyMap<string, InferredType>, from: ReadonlySet<DType>): boolean {
  return [...reads(node), ...node.outputs].some((name) => from.has(types.get(name)?.dtype ?? "string"));
}

/** Why a node must stay as it is; undefined where it can be converted. */
function reasonAgainst(
  graph: Graph,
  node: Node,
  types: ReadonlyMap<string, InferredType>,
  { given, from, observed, refused }: Settings,
): string | undefined {
  const turnedDown = refused.get(node.name) ?? refused.get(node.op);
  if (turnedDown !== undefined) return turnedDown;
  const untyped = [...node.inputs, ...node.outputs].find((name) => name !== "" && !types.has(name));
  if (untyped !== undefined) return `the type of '${untyped}' is unknown`;
  if (subgraphsOf(node).length > 0) return "control flow keeps the types at its border";
  if (given.to === "float32") return node.op === "Constant" || node.domain === "" ? undefined : formOf(graph, node);
  const known = formOf(graph, node);
  if (known !== undefined) return known;
  if (given.block.includes(node.op)) return `'${node.op}' is blocked: it loses too much in ${given.to}`;
  const limit = largestHalf * given.margin;
  for (const name of [...node.inputs, ...node.outputs]) {
    if (!from.has(types.get(name)?.dtype ?? "string")) continue;
    const reached = observed.get(name) ?? 0;
    if (given.to === "float16" && reached > limit)
      return `'${name}' reaches ${reached.toPrecision(4)}, near float16's limit`;
    const weight = graph.weights.get(name) ?? (isNode(node, "Constant") ? constantValue(node) : undefined);
    const reason = weight && weightReason(name, magnitudes(weight), node, given);
    if (reason) return reason;
  }
  return undefined;
}

function weightReason(
  name: string,
  { max, nan }: { readonly max: number; readonly nan: boolean },
  node: Node,
  { to, max: limit }: Options,
): string | undefined {
  if (nan) return `its weight '${name}' holds values that are not numbers`;
  if (to !== "float16" || max <= limit || isMask(node.op, max)) return undefined;
  return `its weight '${name}' reaches ${max.toPrecision(4)}, more than ${limit}`;
}

/** Why an operator has no 16-bit form in the graph's operator set; undefined where it has. */
function formOf(graph: Graph, node: Node): string | undefined {
  const since = node.domain === "" ? halfOperators.get(node.op) : undefined;
  if (since === undefined) return `operator '${opKey(node)}' has no float16 form`;
  if (stringAttribute(node, "reduction", "none") !== "none") return "its reduction has no float16 kernel";
  if ((graph.opsets[""] ?? 0) < since) return `operator '${node.op}' takes float16 from operator set ${since} on`;
  return undefined;
}

function applies(node: Node, graph: Graph): true | string {
  if (subgraphsOf(node).length > 0) return "control flow keeps the types at its border";
  const reason = formOf(graph, node);
  if (reason !== undefined) return reason;
  if (blockedOperators.includes(node.op)) return `'${node.op}' is blocked: it loses too much in float16`;
  return true;
}

async function stored(graph: Graph, given: Options, from: ReadonlySet<DType>, context: Context): Promise<Graph> {
  const selected = selector(given);
  const clamp = given.to === "float16" ? { min: given.min, max: given.max } : undefined;
  const store = (part: Graph, foreign: ReadonlySet<string>): Graph =>
    storeConverted(part, {
      from,
      to: given.to,
      foreign,
      selected,
      skip: context.skip,
      ...(clamp && { clamp }),
    });
  const nested = (part: Graph, foreign: ReadonlySet<string>): Promise<Graph> =>
    mapBodies(store(part, foreign), new Map(), selected, nested);
  return nested(graph, new Set());
}

async function verify(before: Graph, after: Graph, given: Options, context: Context, feeds: Tensors): Promise<void> {
  const wanted = new Map(
    after.inputs.map(({ name, type }) => [name, type?.kind === "tensor" ? type.dtype : undefined]),
  );
  const feedsAfter = Object.fromEntries(
    Object.entries(feeds).map(([name, t]) => [name, wanted.get(name) === given.to ? castTensor(t, given.to) : t]),
  );
  const { relative, broken } = await compareRuns(before, after, context, feeds, feedsAfter);
  if (broken !== undefined) {
    fail(
      "convert-float",
      `output '${broken}' of the converted model is not finite`,
      "Give data, so that activations out of range are found; lower `margin`; or use `storage: true`",
    );
  }
  context.log(`largest difference of an output: ${(100 * relative).toPrecision(2)} % of the largest value`);
}
