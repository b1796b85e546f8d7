import type { InferredType } from "../../analysis/infer.ts";
import { type Draft, edit, renameReads } from "../../graph/edit.ts";
import { type Attribute, type Graph, makeNode, type Node, type Value } from "../../graph/graph.ts";
import { consumersOf, links, reads } from "../../graph/walk.ts";
import { type DType, dtypes } from "../../tensor/dtype.ts";
import { float32, type Tensor } from "../../tensor/tensor.ts";
import { type Clamp, castTensor, type FloatType } from "./cast.ts";

/** How a graph is converted. */
export interface Conversion {
  readonly from: ReadonlySet<DType>;
  readonly to: FloatType;
  readonly types: ReadonlyMap<string, InferredType>;
  /** The nodes that compute in the new type. */
  readonly converted: ReadonlySet<Node>;
  /** Whether inputs and outputs take the new type too. */
  readonly border: boolean;
  readonly clamp?: Clamp;
}

/**
 * Makes the chosen nodes compute in another float type. A value read in both types is cast once; a weight read in both
 * is stored in both.
 */
export function convertGraph(graph: Graph, conversion: Conversion): Graph {
  const { from, to, types, converted, border } = conversion;
  const isFloat = (name: string): boolean => from.has(types.get(name)?.dtype ?? "string");
  const changed = new Set<string>();
  for (const node of converted) for (const name of node.outputs) if (isFloat(name)) changed.add(name);
  const outputs = new Set(graph.outputs.map(({ name }) => name));
  const declared = new Map(
    [...graph.declared].map(([name, value]) => [name, changed.has(name) ? retypedValue(value, to) : value]),
  );
  return edit({ ...graph, declared }, (draft) => {
    const names = new Names(draft, conversion, isFloat);
    if (border) {
      for (const input of draft.inputs) if (isFloat(input.name)) changed.add(input.name);
      draft.inputs = draft.inputs.map((input) => (isFloat(input.name) ? retypedValue(input, to) : input));
      for (const input of draft.inputs) {
        const weight = draft.weights.get(input.name);
        if (weight && isFloat(input.name)) draft.weights.set(input.name, castTensor(weight, to, conversion.clamp));
      }
    }
    const made = new Set(graph.nodes.flatMap((node) => node.outputs));
    for (const { name } of graph.outputs) {
      if (made.has(name) && isFloat(name)) names.bind(name, changed.has(name), border);
      if (border && isFloat(name)) changed.add(name);
    }
    if (border) draft.outputs = draft.outputs.map((o) => (isFloat(o.name) ? retypedValue(o, to) : o));
    for (const name of changed) if (!outputs.has(name) || !made.has(name)) names.made(name, true);
    for (const node of graph.nodes) {
      const own = converted.has(node);
      if (!own && !node.outputs.some(isFloat) && ![...reads(node)].some(isFloat)) continue;
      const reading = renameReads(node, (name) => (isFloat(name) ? names.get(name, own) : name));
      const renamed = node.outputs.map((name) => (isFloat(name) ? names.output(name, own) : name));
      const same = reading === node && renamed.every((name, i) => name === node.outputs[i]);
      const typed = own ? retyped({ ...reading, outputs: renamed }, conversion) : { ...reading, outputs: renamed };
      if (own || !same) draft.replace(node, typed);
    }
  });
}

/** The names under which each value exists in its old and in the new type. */
class Names {
  private readonly draft: Draft;
  private readonly conversion: Conversion;
  private readonly known = new Map<string, { old?: string; new?: string }>();
  private readonly isFloat: (name: string) => boolean;

  constructor(draft: Draft, conversion: Conversion, isFloat: (name: string) => boolean) {
    this.draft = draft;
    this.conversion = conversion;
    this.isFloat = isFloat;
  }

  /** A value that a node makes, or that is an input, in the new or in its old type. */
  made(name: string, isNew: boolean): void {
    this.known.set(name, isNew ? { new: name } : { old: name });
  }

  /** A graph output made in one type and wanted, under its name, perhaps in the other. */
  bind(name: string, isNew: boolean, wantNew: boolean): void {
    if (isNew === wantNew) {
      this.made(name, isNew);
      return;
    }
    const { to } = this.conversion;
    const inner = this.draft.fresh(`${name}_${isNew ? to : this.oldType(name)}`);
    this.known.set(name, isNew ? { new: inner, old: name } : { old: inner, new: name });
    this.draft.add(castNode(inner, name, wantNew ? to : this.oldType(name)));
  }

  /** The name under which a node makes a value. */
  output(name: string, isNew: boolean): string {
    return (isNew ? this.known.get(name)?.new : this.known.get(name)?.old) ?? name;
  }

  /** The name of a value in the type asked for, cast where it does not exist yet. */
  get(name: string, isNew: boolean): string {
    const entry = this.known.get(name) ?? { old: name };
    this.known.set(name, entry);
    const found = isNew ? entry.new : entry.old;
    if (found !== undefined) return found;
    const { to, clamp } = this.conversion;
    const weight = this.draft.before.weights.get(name);
    const input = this.draft.before.inputs.some((value) => value.name === name);
    if (weight && isNew && !input && this.isFloat(name)) {
      entry.new = this.weight(name, castTensor(weight, to, clamp));
      return entry.new;
    }
    const type = isNew ? to : this.oldType(name);
    const made = this.draft.fresh(`${name}_${type}`);
    this.draft.add(castNode((isNew ? entry.old : entry.new)!, made, type));
    if (isNew) entry.new = made;
    else entry.old = made;
    return made;
  }

  /** A converted weight: under its own name where nobody reads the old one. */
  private weight(name: string, value: Tensor): string {
    const { before } = this.draft;
    const others = consumersOf(before, name).some((node) => !this.conversion.converted.has(node));
    if (others || links(before).outputs.has(name)) return this.draft.constant(`${name}_${value.dtype}`, value);
    this.draft.weights.set(name, value);
    return name;
  }

  private oldType(name: string): DType {
    return this.conversion.types.get(name)!.dtype;
  }
}

/** A Cast to a type. */
export function castNode(from: string, to: string, dtype: DType): Node {
  return makeNode("Cast", [from], [to], { to: dtypes[dtype].code });
}

function retypedValue(value: Value, to: FloatType): Value {
  if (value.type?.kind !== "tensor") return value;
  return { name: value.name, type: { ...value.type, dtype: to } };
}

/** Attributes that name the type of a node's output. */
const typeAttributes: Readonly<Record<string, string>> = { Cast: "to", EyeLike: "dtype" };

function retyped(node: Node, { from, to, clamp }: Conversion): Node {
  const attributes: Record<string, Attribute> = { ...node.attributes };
  const convert = (t: Tensor): Attribute => ({
    type: "tensor",
    value: from.has(t.dtype) ? castTensor(t, to, clamp) : t,
  });
  const named = typeAttributes[node.op];
  const attribute = named === undefined ? undefined : attributes[named];
  if (named !== undefined && attribute?.type === "int" && [...from].some((t) => dtypes[t].code === attribute.value)) {
    attributes[named] = { type: "int", value: dtypes[to].code };
  }
  const { value } = attributes;
  if (value?.type === "tensor") attributes.value = convert(value.value);
  else if (node.op === "ConstantOfShape" && from.has("float32")) attributes.value = convert(float32([1], [0]));
  if (node.op === "Constant" && attributes.value_float?.type === "float") {
    return { ...node, attributes: { value: convert(float32([], [attributes.value_float.value])) } };
  }
  if (node.op === "Constant" && attributes.value_floats?.type === "floats") {
    const { value: list } = attributes.value_floats;
    return { ...node, attributes: { value: convert(float32([list.length], list)) } };
  }
  return { ...node, attributes };
}
