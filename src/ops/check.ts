import { didYouMean } from "../errors.ts";
import { type Attribute, type Graph, type Node, nodeLabel, type Subgraph } from "../graph/graph.ts";
import type { Problem } from "../graph/validate.ts";
import { allNodes } from "../graph/walk.ts";
import { type Formal, operatorNames, type Signature, signatureOf, signaturesOf } from "./catalog.ts";

const enough = 100;

/**
 * What is wrong with a graph's nodes by the catalogue of operators: operators and attributes that do not exist (in the
 * imported version), missing or surplus inputs, outputs and attributes. Operators of other domains, and those that the
 * model defines as functions, pass.
 *
 * @returns at most 100 problems
 */
export function checkOperators(graph: Graph): readonly Problem[] {
  const functions = new Set(graph.functions.map(({ domain, name }) => `${domain}:${name}`));
  const problems: Problem[] = [];
  const scan = (part: Pick<Subgraph, "nodes">, opsets: Readonly<Record<string, number>>): void => {
    for (const node of allNodes(part as Subgraph)) {
      if (problems.length >= enough) return;
      if (functions.has(`${node.domain}:${node.op}`)) continue;
      const version = Object.hasOwn(opsets, node.domain) ? opsets[node.domain]! : Number.POSITIVE_INFINITY;
      for (const [what, hint] of checkNode(node, version)) {
        problems.push({ level: "error", where: `node '${nodeLabel(node)}'`, what, ...(hint && { hint }) });
      }
    }
  };
  scan(graph, graph.opsets);
  for (const def of graph.functions) scan(def, def.opsets);
  return problems;
}

type Finding = readonly [what: string, hint?: string];

function checkNode(node: Node, version: number): Finding[] {
  const operators = operatorNames(node.domain);
  if (!operators) return [];
  const all = signaturesOf(node.domain, node.op);
  const shown = node.domain ? `${node.domain}:${node.op}` : node.op;
  if (!all) return [[`there is no operator '${shown}'`, didYouMean(node.op, operators)]];
  const signature = signatureOf(node.domain, node.op, version);
  if (!signature)
    return [[`operator '${shown}' came with operator set ${all[0]!.versions[0]}, the model imports ${version}`]];
  if (signature.removed) {
    return [[`operator '${shown}' was removed in operator set ${signature.versions[0]}, the model imports ${version}`]];
  }
  return [
    ...checkFormals(node.inputs, signature.inputs, "input"),
    ...checkFormals(node.outputs, signature.outputs, "output"),
    ...checkAttributes(node, signature),
  ];
}

function checkFormals(names: readonly string[], formals: readonly Formal[], what: "input" | "output"): Finding[] {
  const found: Finding[] = [];
  const last = formals.at(-1)?.count;
  const open = last === "any" || last === "some";
  if (!open && names.length > formals.length) {
    found.push([`it has ${names.length} ${what}s, the operator has at most ${formals.length}`]);
  }
  for (const [i, { name, count }] of formals.entries()) {
    if ((count === "one" || count === "some") && !names[i]) found.push([`its ${what} '${name}' is missing`]);
  }
  return found;
}

function checkAttributes(node: Node, { attributes }: Signature): Finding[] {
  const found: Finding[] = [];
  for (const [name, attribute] of Object.entries(node.attributes)) {
    const spec = attributes.get(name);
    if (!spec) found.push([`operator '${node.op}' has no attribute '${name}'`, didYouMean(name, attributes.keys())]);
    else if (!fits(attribute, spec.type)) {
      found.push([`its attribute '${name}' is of type ${attribute.type}, the operator wants ${spec.type}`]);
    }
  }
  for (const [name, { required }] of attributes) {
    if (required && !Object.hasOwn(node.attributes, name)) found.push([`its attribute '${name}' is missing`]);
  }
  return found;
}

function fits(attribute: Attribute, type: string): boolean {
  if (attribute.type === "ref") return true;
  return attribute.type === "other" ? type === "type" || type === "types" : attribute.type === type;
}
