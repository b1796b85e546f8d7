import { fail } from "../errors.ts";
import {
  type Attribute,
  type FunctionDef,
  type Graph,
  makeNode,
  type Node,
  nodeLabel,
  type Subgraph,
  subgraphsOf,
} from "../graph/graph.ts";
import { maxOpset } from "../graph/validate.ts";
import { allNodes, valueNames } from "../graph/walk.ts";
import type { DType } from "../tensor/dtype.ts";
import { floatToHalf } from "../tensor/half.ts";
import { float32, type Tensor, tensor } from "../tensor/tensor.ts";
import { checkOperators } from "./check.ts";
import { type Conversion, conversionRules } from "./conversions.ts";
import { type KnownTypes, lookup, type Scope, scopeOf } from "./lookup.ts";

/** The IR version that came with each version of the operator set, from 1 on (onnx/docs/Versioning.md). */
const irOfOpset = [3, 3, 3, 3, 3, 3, 3, 3, 4, 5, 6, 7, 7, 7, 8, 8, 8, 8, 9, 9, 10, 10, 11, 12, 13, 13];

/**
 * The same computation in a newer version of ONNX's own operator set: nodes whose definition changed on the way are
 * rewritten, in nested graphs and functions too, and the IR version is raised to the one that came with it. A graph that
 * is there already, or beyond, is returned as it is.
 *
 * @param types what is known of values beyond the graph's own declarations; lets some rewrites be simpler
 * @throws PareError naming a node that can't be converted, and why
 */
export function convertOpset(graph: Graph, target: number, types: KnownTypes = new Map()): Graph {
  const from = graph.opsets[""] ?? target;
  if (from >= target) return graph;
  const who = `convert to operator set ${target}`;
  if (target > maxOpset) fail(who, `ONNX Runtime 1.30 loads operator sets up to ${maxOpset}`);
  const constants = new Map<string, Tensor>();
  const common = {
    who,
    target,
    types,
    taken: valueNames(graph),
    floatType: soleFloatType(graph),
    read: namesRead(graph),
  };
  for (const { name } of allNodes(graph)) common.taken.add(name);
  const place = (name: string, value: Tensor): void => void constants.set(name, value);
  const nodes = convertNodes(graph, undefined, from, { ...common, place, shared: new Map() });
  const functions = graph.functions.map((def) => convertFunction(def, common));
  const weights = new Map([...graph.weights, ...constants]);
  const converted = { ...graph, nodes, weights, functions, opsets: { ...graph.opsets, "": target } };
  // weights that are not inputs came with IR version 4
  const result = withIrVersion(converted, Math.max(irOfOpset[target - 1]!, constants.size > 0 ? 4 : 0));
  const [problem] = checkOperators(result);
  if (problem) fail(who, `${problem.where}: ${problem.what}`, "This operator can't be converted");
  return result;
}

/**
 * The graph with at least an IR version. From version 4 on, weights that are inputs too can be replaced by the caller, so
 * on the way there they stop being inputs: until then they were constants.
 */
export function withIrVersion(graph: Graph, irVersion: number): Graph {
  if (graph.irVersion >= irVersion) return graph;
  const inputs =
    graph.irVersion < 4 && irVersion >= 4 ? graph.inputs.filter(({ name }) => !graph.weights.has(name)) : graph.inputs;
  return { ...graph, inputs, irVersion };
}

/** What the conversion of one model, or of one function in it, carries along. */
interface Work {
  readonly who: string;
  readonly target: number;
  readonly types: KnownTypes;
  /** Names in use. */
  readonly taken: Set<string>;
  /** Every name that a node or an output reads. */
  readonly read: ReadonlySet<string>;
  /** The only float type in the model, if there is one only. */
  readonly floatType: DType | undefined;
  /** Puts a constant where the nodes can read it. */
  place(name: string, value: Tensor): void;
  /** Names of the constants placed so far, by their content. */
  readonly shared: Map<string, string>;
}

function convertNodes(graph: Subgraph, outer: Scope | undefined, from: number, work: Work): readonly Node[] {
  const steps = conversionRules.filter(({ at }) => from < at && at <= work.target);
  const scope = scopeOf(graph, outer);
  return graph.nodes.flatMap((node) => {
    const whole = subgraphsOf(node).length > 0 ? convertNested(node, scope, from, work) : node;
    if (whole.domain !== "") return [whole];
    let parts: readonly Node[] = [whole];
    for (const { at, ops, rewrite } of steps) {
      parts = parts.flatMap((part) => (ops.includes(part.op) ? rewrite(part, conversion(scope, at, work)) : [part]));
    }
    return parts.map((part) => (part.name === node.name ? part : { ...part, name: fresh(work.taken, part.name) }));
  });
}

function convertNested(node: Node, scope: Scope, from: number, work: Work): Node {
  const convert = (graph: Subgraph): Subgraph => ({ ...graph, nodes: convertNodes(graph, scope, from, work) });
  const attributes = Object.entries(node.attributes).map(([name, attribute]): [string, Attribute] => {
    if (attribute.type === "graph") return [name, { ...attribute, value: convert(attribute.value) }];
    return [name, attribute.type === "graphs" ? { ...attribute, value: attribute.value.map(convert) } : attribute];
  });
  return { ...node, attributes: Object.fromEntries(attributes) };
}

/** A function's body is converted from the version that the function itself imports. */
function convertFunction(def: FunctionDef, common: Omit<Work, "place" | "shared">): FunctionDef {
  const from = def.opsets[""];
  if (from === undefined || from >= common.target) return def;
  const value = (name: string) => ({ name });
  const [inputs, outputs] = [def.inputs.map(value), def.outputs.map(value)];
  const body = { ...def, weights: new Map(), sparse: new Map(), inputs, outputs };
  const constants: Node[] = [];
  // functions have no weights
  const place = (name: string, t: Tensor): void => void constants.push(makeNode("Constant", [], [name], { value: t }));
  const nodes = convertNodes(body, undefined, from, { ...common, taken: valueNames(body), place, shared: new Map() });
  return { ...def, nodes: [...constants, ...nodes], opsets: { ...def.opsets, "": common.target } };
}

function fresh(taken: Set<string>, stem: string): string {
  let name = stem;
  for (let i = 1; taken.has(name); i++) name = `${stem}_${i}`;
  taken.add(name);
  return name;
}

function conversion(scope: Scope, at: number, work: Work): Conversion {
  const constant = (stem: string, value: Tensor): string => {
    const content = `${stem} ${value.dtype} ${value.shape} ${value.bytes()}`;
    const known = work.shared.get(content);
    if (known) return known;
    const name = fresh(work.taken, stem);
    work.place(name, value);
    work.shared.set(content, name);
    return name;
  };
  const look = lookup(scope, work.types);
  return {
    constant,
    fresh: (stem) => fresh(work.taken, stem),
    isRead: (name) => work.read.has(name),
    ...look,
    scalarLike(like, stem, value) {
      const dtype = look.dtypeOf(like) ?? work.floatType;
      if (dtype) return { name: constant(stem, scalar(dtype, value)), nodes: [] };
      if (work.target < 15) fail(work.who, `the element type of '${like}' is not declared`, "Convert to 15 or later");
      const name = fresh(work.taken, `${stem}_like_${like}`);
      return { name, nodes: [makeNode("CastLike", [constant(stem, float32([], [value])), like], [name])] };
    },
    refuse: (node, reason) => fail(work.who, `node '${nodeLabel(node)}' can't go from ${at - 1} to ${at}: ${reason}`),
  };
}

function scalar(dtype: DType, value: number): Tensor {
  if (dtype === "float32") return float32([], [value]);
  if (dtype === "float64") return tensor(dtype, [], Float64Array.of(value));
  if (dtype === "float16" || dtype === "bfloat16") return tensor(dtype, [], floatToHalf(Float32Array.of(value), dtype));
  return fail("convertOpset", `a limit or padding of type '${dtype}' can't come from a float attribute`);
}

function namesRead(graph: Graph): ReadonlySet<string> {
  const found = new Set(graph.outputs.map(({ name }) => name));
  const bodies = graph.functions.map(({ nodes, outputs }) => ({ nodes, outputs }));
  for (const name of bodies.flatMap(({ outputs }) => outputs)) found.add(name);
  for (const nodes of [graph.nodes, ...bodies.map((body) => body.nodes)]) {
    for (const node of allNodes({ ...graph, nodes })) {
      for (const name of node.inputs) found.add(name);
      for (const { outputs } of subgraphsOf(node)) for (const { name } of outputs) found.add(name);
    }
  }
  return found;
}

function soleFloatType(graph: Graph): DType | undefined {
  const found = new Set<DType>();
  const see = (dtype: DType): void => void (isFloat(dtype) && found.add(dtype));
  for (const { type } of [...graph.inputs, ...graph.outputs]) if (type?.kind === "tensor") see(type.dtype);
  for (const weight of graph.weights.values()) see(weight.dtype);
  for (const { op, attributes } of allNodes(graph)) {
    if (op === "Cast") return undefined;
    for (const attribute of Object.values(attributes)) if (attribute.type === "tensor") see(attribute.value.dtype);
  }
  return found.size === 1 ? [...found][0] : undefined;
}

function isFloat(dtype: DType): boolean {
  return dtype === "float32" || dtype === "float64" || dtype === "float16" || dtype === "bfloat16";
}
