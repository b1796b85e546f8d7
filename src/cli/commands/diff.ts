import type { Command } from "commander";
import { diff, type GraphDiff, summarize } from "../../graph/diff.ts";
import { type Graph, type Node, nodeLabel } from "../../graph/graph.ts";
import { printNode } from "../../graph/print.ts";
import { load } from "../../platform/node.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { environment } from "../environment.ts";
import { addCommon, type CommonFlags } from "../flags.ts";

/** `pare diff`: what differs between two model files. */
export function define(command: Command, signal: AbortSignal): void {
  command.argument("<before>", "an ONNX or Keras file").argument("<after>", "another");
  addCommon(command, "json", "quiet");
  command.action(async (first: string, second: string, flags: CommonFlags) => {
    const env = await environment(flags, signal);
    const before = await load(first);
    const found = diff(before, aligned(before, await load(second)));
    env.print(`${[summarize(found), ...details(found)].join("\n")}\n`);
    env.json(plain(found));
  });
}

/** A graph with the nodes and weights that equal another's replaced by that one's: {@link diff} compares identities. */
function aligned(before: Graph, after: Graph): Graph {
  const known = new Map(before.nodes.map((node) => [nodeKey(node), node]));
  const nodes = after.nodes.map((node) => known.get(nodeKey(node)) ?? node);
  const weights = [...after.weights].map(([name, weight]): [string, Tensor] => {
    const old = before.weights.get(name);
    return [name, old && sameTensor(old, weight) ? old : weight];
  });
  return { ...after, nodes, weights: new Map(weights) };
}

function nodeKey(node: Node): string {
  return `${node.name}\n${printNode(node, Number.POSITIVE_INFINITY)}`;
}

const chunk = 1 << 24;

function sameTensor(a: Tensor, b: Tensor): boolean {
  if (a.dtype !== b.dtype || a.shape.join() !== b.shape.join() || a.byteLength !== b.byteLength) return false;
  if (a.strings || b.strings) return JSON.stringify(a.strings) === JSON.stringify(b.strings);
  for (let at = 0; at < a.byteLength; at += chunk) {
    const length = Math.min(chunk, a.byteLength - at);
    if (Buffer.compare(a.bytes(at, length), b.bytes(at, length)) !== 0) return false;
  }
  return true;
}

const shown = 40;

function details({ added, removed, changed, weights }: GraphDiff): string[] {
  const lines = [
    ...removed.map((node) => `- ${printNode(node).trim()}`),
    ...added.map((node) => `+ ${printNode(node).trim()}`),
    ...changed.flatMap(({ before, after }) => [`- ${printNode(before).trim()}`, `+ ${printNode(after).trim()}`]),
    ...weights.map(({ name, before, after }) => `~ ${name}: ${tensorText(before)} -> ${tensorText(after)}`),
  ];
  return lines.length > shown ? [...lines.slice(0, shown), `... and ${lines.length - shown} more`] : lines;
}

function tensorText(tensor: Tensor | undefined): string {
  return tensor ? `${tensor.dtype}[${tensor.shape.join(", ")}]` : "none";
}

function plain(found: GraphDiff): unknown {
  const names = (nodes: readonly Node[]): string[] => nodes.map(nodeLabel);
  return {
    ...found,
    added: names(found.added),
    removed: names(found.removed),
    changed: names(found.changed.map(({ after }) => after)),
    weights: found.weights.map(({ name, before, after }) => ({
      name,
      before: before ? tensorText(before) : undefined,
      after: after ? tensorText(after) : undefined,
    })),
  };
}
