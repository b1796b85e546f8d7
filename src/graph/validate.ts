import { didYouMean, fail } from "../errors.ts";
import { type DType, dtypes, packedBytes } from "../tensor/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type FunctionDef, type Graph, type Node, nodeLabel, type Subgraph, subgraphsOf, type Value } from "./graph.ts";
import { allNodes } from "./walk.ts";

/** Something wrong with a graph. */
export interface Problem {
  /** "error": ONNX Runtime or the ONNX standard refuses the graph. "warning": it breaks a rule that runtimes overlook. */
  readonly level: "error" | "warning";
  /** The part of the graph: "node 'fc1'", "weight 'w'", "graph". */
  readonly where: string;
  readonly what: string;
  readonly hint?: string;
}

/** The newest version of ONNX's own operator set that ONNX Runtime 1.30 loads. */
export const maxOpset = 26;
/** The newest ONNX IR version that ONNX Runtime 1.30 loads. */
export const maxIrVersion = 13;

const enough = 100;

/**
 * What is wrong with a graph's structure: undefined and doubly defined values, order, names, operator-set imports,
 * versions, and weights that are not as long as they say. Looks at no operator's meaning and at no weight's data.
 *
 * @returns at most 100 problems, none for a sound graph
 */
export function validate(graph: Graph): readonly Problem[] {
  const problems: Problem[] = [];
  const report: Report = (level, where, what, hint) => {
    if (problems.length < enough) problems.push({ level, where, what, ...(hint && { hint }) });
  };
  checkVersions(graph, report);
  for (const { name, type } of graph.inputs) {
    if (!type && !graph.weights.has(name)) report("error", `input '${name}'`, "its type is missing");
  }
  checkScope(graph, undefined, "graph", report);
  const seen = new Set<string>();
  for (const def of graph.functions) {
    const where = `function '${def.domain ? `${def.domain}:` : ""}${def.name}'`;
    const key = JSON.stringify([def.domain, def.name, def.overload]);
    if (seen.has(key)) report("error", where, "it is defined twice");
    seen.add(key);
    checkScope(bodyOf(def), undefined, where, report);
    checkImports(bodyOf(def), def.opsets, where, report);
  }
  return problems;
}

/**
 * Throws where {@link validate} finds errors; warnings pass.
 *
 * @param who the file, step or command that made the graph
 * @throws PareError with the first three errors
 */
export function assertValid(graph: Graph, who = graph.name || "graph"): void {
  const errors = validate(graph).filter(({ level }) => level === "error");
  if (errors.length === 0) return;
  const said = errors.slice(0, 3).map(({ where, what, hint }) => `${where}: ${what}${hint ? ` (${hint})` : ""}`);
  const more = errors.length > 3 ? `; and ${errors.length - 3} more` : "";
  fail(who, `the graph is not valid: ${said.join("; ")}${more}`);
}

type Report = (level: Problem["level"], where: string, what: string, hint?: string) => void;

/** The values that nodes may read: those of a graph so far, and of the graphs around it. */
interface Scope {
  readonly names: Set<string>;
  readonly outer: Scope | undefined;
}

function visible(scope: Scope | undefined, name: string): boolean {
  for (let at = scope; at; at = at.outer) if (at.names.has(name)) return true;
  return false;
}

function checkScope(graph: Subgraph, outer: Scope | undefined, where: string, report: Report): void {
  const scope: Scope = { names: new Set(), outer };
  checkBorder(graph, scope, where, report);
  const makers = new Map<string, Node>();
  for (const node of graph.nodes) for (const name of node.outputs) if (!makers.has(name)) makers.set(name, node);
  const labels = new Set<string>();
  for (const node of graph.nodes) {
    const at = `node '${nodeLabel(node)}'`;
    if (node.op === "") report("error", at, "it has no operator");
    if (node.name !== "" && labels.has(node.name)) report("error", at, "another node of the graph has its name");
    labels.add(node.name);
    for (const name of node.inputs)
      if (name !== "" && !visible(scope, name)) reportUndefined(name, at, scope, makers, report);
    for (const subgraph of subgraphsOf(node)) {
      checkScope(
        subgraph,
        scope,
        `${where === "graph" ? "" : `${where}, `}subgraph '${subgraph.name}' of ${at}`,
        report,
      );
    }
    for (const name of node.outputs) {
      if (name === "") continue;
      if (scope.names.has(name)) report("error", at, `it makes '${name}', which is defined already`);
      else if (visible(outer, name)) report("error", at, `it makes '${name}', which is a value of the graph around it`);
      scope.names.add(name);
    }
  }
  for (const { name } of graph.outputs) {
    if (scope.names.has(name)) continue;
    if (!visible(outer, name)) report("error", where, `nothing makes its output '${name}'`, nearest(name, scope));
    else report("error", where, `its output '${name}' is a value of the graph around it`, "Add an Identity node");
  }
}

/** Inputs, weights and outputs by themselves. */
function checkBorder(graph: Subgraph, scope: Scope, where: string, report: Report): void {
  const define = (name: string, kind: string): void => {
    if (name === "") report("error", where, `a ${kind} has no name`);
    if (visible(scope.outer, name)) {
      report("warning", `${kind} '${name}'`, "it hides a value of the graph around it");
    }
    scope.names.add(name);
  };
  for (const { name } of graph.inputs) {
    if (scope.names.has(name)) report("error", `input '${name}'`, "another input has its name");
    define(name, "input");
  }
  for (const [name, weight] of graph.weights) {
    define(name, "weight");
    checkWeight(name, weight, report);
  }
  for (const [name, { values, indices }] of graph.sparse) {
    if (graph.weights.has(name)) report("error", `sparse weight '${name}'`, "a dense weight has its name");
    define(name, "sparse weight");
    checkWeight(name, values, report);
    if (indices.dtype !== "int64")
      report("error", `sparse weight '${name}'`, `its indices are ${indices.dtype}, not int64`);
  }
  const outputs = new Set<string>();
  for (const { name } of graph.outputs) {
    if (name === "") report("error", where, "an output has no name");
    if (outputs.has(name)) report("warning", `output '${name}'`, "it is listed twice");
    outputs.add(name);
  }
}

function checkWeight(name: string, { dtype, shape, size, byteLength, strings }: Tensor, report: Report): void {
  const expected = shape.reduce((a, b) => a * b, 1);
  const held = strings ? strings.length : size;
  if (held !== expected)
    report("error", `weight '${name}'`, `shape [${shape.join(", ")}] has ${expected} elements, it holds ${held}`);
  else if (!strings && byteLength !== packedBytes(dtype, size)) {
    report(
      "error",
      `weight '${name}'`,
      `${size} elements of ${dtype} take ${packedBytes(dtype, size)} bytes, it has ${byteLength}`,
    );
  }
}

function reportUndefined(
  name: string,
  at: string,
  scope: Scope,
  makers: ReadonlyMap<string, Node>,
  report: Report,
): void {
  const maker = makers.get(name);
  if (maker)
    report(
      "error",
      at,
      `it reads '${name}' before node '${nodeLabel(maker)}' makes it`,
      "Sort the nodes, or break the cycle",
    );
  else report("error", at, `it reads '${name}', which nothing makes`, nearest(name, scope));
}

function nearest(name: string, scope: Scope): string | undefined {
  return (scope.names.size < 5000 && didYouMean(name, scope.names)) || undefined;
}

function checkVersions(graph: Graph, report: Report): void {
  const { irVersion, opsets } = graph;
  if (irVersion > maxIrVersion) {
    report(
      "error",
      "graph",
      `IR version ${irVersion} is newer than ${maxIrVersion}, the last that ONNX Runtime 1.30 loads`,
    );
  }
  if (Object.keys(opsets).length === 0) report("error", "graph", "it imports no operator set");
  for (const [domain, version] of Object.entries(opsets)) {
    if (!Number.isSafeInteger(version) || version < 1)
      report("error", "graph", `operator set '${domain}' has version ${version}`);
    if (domain === "" && version > maxOpset) {
      report(
        "error",
        "graph",
        `operator set ${version} is newer than ${maxOpset}, the last that ONNX Runtime 1.30 loads`,
      );
    }
  }
  checkImports(graph, opsets, "graph", report);
  for (const dtype of usedTypes(graph)) {
    const { ir } = dtypes[dtype];
    if (ir > irVersion)
      report("warning", "graph", `it uses ${dtype}, which IR version ${irVersion} does not know`, `Raise it to ${ir}`);
  }
}

function checkImports(graph: Subgraph, opsets: Readonly<Record<string, number>>, where: string, report: Report): void {
  const missing = new Map<string, Node>();
  for (const node of allNodes(graph)) if (!Object.hasOwn(opsets, node.domain)) missing.set(node.domain, node);
  for (const [domain, node] of missing) {
    const what = `operator set '${domain}' is not imported, node '${nodeLabel(node)}' needs it`;
    // runtimes take the newest version of a domain that is not imported, but for ONNX's own
    report(domain === "" ? "error" : "warning", where, what);
  }
}

/** The element types of weights, constants and declared values. */
function usedTypes(graph: Subgraph, found = new Set<DType>()): Set<DType> {
  const declare = ({ type }: Value): void => {
    if (type?.kind === "tensor" || type?.kind === "sparse") found.add(type.dtype);
  };
  for (const weight of graph.weights.values()) found.add(weight.dtype);
  for (const value of [...graph.inputs, ...graph.outputs, ...graph.declared.values()]) declare(value);
  for (const node of graph.nodes) {
    for (const attribute of Object.values(node.attributes))
      if (attribute.type === "tensor") found.add(attribute.value.dtype);
    for (const subgraph of subgraphsOf(node)) usedTypes(subgraph, found);
  }
  return found;
}

/** A function's body as a graph. */
function bodyOf(def: FunctionDef): Subgraph {
  const value = (name: string): Value => ({ name });
  return {
    name: def.name,
    nodes: def.nodes,
    weights: new Map(),
    sparse: new Map(),
    inputs: def.inputs.map(value),
    outputs: def.outputs.map(value),
    declared: def.declared,
  };
}
