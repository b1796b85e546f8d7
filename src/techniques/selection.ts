import { z } from "zod";
import { fail } from "../errors.ts";
import { type Node, opKey } from "../graph/graph.ts";

const patterns = z.array(z.string().min(1)).default([]);

/** Options of every technique that works node by node; spread into its schema. */
export const selectionOptions = {
  include: patterns.describe(
    "only these nodes: a node name, an operator type, a glob with *, or a /regular expression/",
  ),
  exclude: patterns.describe("not these nodes, in the same notation"),
} as const;

/**
 * Whether a node is chosen by `include` and `exclude`. A pattern is a node's exact name, its operator (with its domain,
 * "com.microsoft:Attention", or without), a glob over the name where `*` is any run of characters, or a regular
 * expression over the name between slashes.
 *
 * @throws PareError for a malformed regular expression
 */
export function selector(options: {
  readonly include: readonly string[];
  readonly exclude: readonly string[];
}): (node: Node) => boolean {
  const include = options.include.map(matcher);
  const exclude = options.exclude.map(matcher);
  return (node) => (include.length === 0 || include.some((m) => m(node))) && !exclude.some((m) => m(node));
}

function matcher(pattern: string): (node: Node) => boolean {
  if (pattern.length > 2 && pattern.startsWith("/") && pattern.endsWith("/")) {
    const expression = parse(pattern);
    return ({ name }) => expression.test(name);
  }
  if (pattern.includes("*")) {
    const glob = new RegExp(`^${pattern.split("*").map(escapeRegExp).join(".*")}$`, "s");
    return (node) => glob.test(node.name) || glob.test(opKey(node));
  }
  return (node) => node.name === pattern || node.op === pattern || opKey(node) === pattern;
}

function parse(pattern: string): RegExp {
  try {
    return new RegExp(pattern.slice(1, -1));
  } catch (error) {
    return fail("selection", `'${pattern}' is not a regular expression`, "Check its brackets and escapes", error);
  }
}

function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}
