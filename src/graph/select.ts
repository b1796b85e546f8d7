import { didYouMean, fail, PareError } from "../errors.ts";
import { type Graph, type Node, nodeLabel, opKey } from "./graph.ts";
import { allNodes, links } from "./walk.ts";

/**
 * Whether a node is chosen by `include` and `exclude`. A pattern is a node's exact name (of a node without one its label,
 * "Conv(y)"), its operator (with its domain, "com.microsoft:Attention", or without), a glob over the name where `*` is any
 * run of characters, or a regular expression over the name between slashes.
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

/**
 * Refuses an `include` or `exclude` pattern that no node of a graph, bodies of control flow included, fits: a slip of the
 * pen that would silently select everything or nothing.
 *
 * @throws PareError
 */
export function checkSelection(options: Readonly<Record<string, unknown>>, graph: Graph, who: string): void {
  const nodes = [...allNodes(graph)];
  for (const key of ["include", "exclude"]) {
    for (const pattern of (options[key] ?? []) as readonly string[]) {
      if (nodes.some(matcher(pattern))) continue;
      const hint = didYouMean(pattern, new Set(nodes.flatMap((node) => [nodeLabel(node), node.op])));
      fail(who, `no node fits --${key} '${pattern}'`, hint || "See the names with `pare print`");
    }
  }
}

/** A node, or what goes by a name alone. */
type Named = Pick<Node, "name" | "op" | "domain"> & Partial<Pick<Node, "outputs">>;

/**
 * Whether one pattern, as in {@link selector}, fits a node.
 *
 * @throws PareError for a malformed regular expression
 */
export function matcher(pattern: string): (node: Named) => boolean {
  if (pattern.length > 2 && pattern.startsWith("/") && pattern.endsWith("/")) {
    const expression = parse(pattern);
    return ({ name }) => expression.test(name);
  }
  if (pattern.includes("*")) {
    const glob = new RegExp(`^${pattern.split("*").map(escapeRegExp).join(".*")}$`, "s");
    return (node) => glob.test(node.name) || glob.test(opKey(node));
  }
  return ({ name, op, domain, outputs = [] }) =>
    name === pattern ||
    op === pattern ||
    opKey({ op, domain }) === pattern ||
    nodeLabel({ name, op, outputs }) === pattern;
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

/**
 * Why a pattern can't choose a node by its label and nothing else; undefined where it can.
 *
 * @param layer nodes that are chosen with it, and whose weights it may fit
 */
export function ambiguity(graph: Graph, node: Node, layer: ReadonlySet<Node> = new Set([node])): string | undefined {
  const fits = patternOf(nodeLabel(node));
  if (!fits?.(node)) return "its name reads as a regular expression";
  for (const other of allNodes(graph)) {
    if (other !== node && fits(other)) return `its name would choose '${nodeLabel(other)}' (${other.op}) too`;
  }
  for (const [name, readers] of links(graph).consumers) {
    const foreign = graph.weights.has(name) && !readers.every((reader) => layer.has(reader));
    if (foreign && fits({ name, op: "", domain: "" })) return `its name would choose weight '${name}' too`;
  }
  return undefined;
}

function patternOf(label: string): ReturnType<typeof matcher> | undefined {
  try {
    return matcher(label);
  } catch (error) {
    if (!(error instanceof PareError)) throw error;
    return undefined;
  }
}
