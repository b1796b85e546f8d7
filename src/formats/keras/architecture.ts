import { fail } from "../../errors.ts";
import { countedFromZero } from "./references.ts";
import { damaged, isJson, type Json, listOf, type Settings, settings } from "./settings.ts";

/** An output of a call of a layer. */
export interface Reference {
  readonly layer: string;
  /** Which of the layer's calls, from 0: a shared layer has several. */
  readonly call: number;
  /** Which of the call's outputs. */
  readonly output: number;
}

/** What a layer is called with. */
export type Argument =
  | { readonly kind: "tensor"; readonly of: Reference }
  | { readonly kind: "list"; readonly items: readonly Argument[] }
  | { readonly kind: "constant"; readonly value: unknown };

/** One call of a layer. */
export interface Call {
  readonly positional: readonly Argument[];
  readonly named: Readonly<Record<string, Argument>>;
}

/** A layer as the architecture describes it. */
export interface LayerSpec {
  readonly name: string;
  readonly className: string;
  readonly settings: Settings;
  readonly calls: readonly Call[];
  /** Whether its calls are described the way of Keras 2. */
  readonly keras2: boolean;
  /** Whether it is a function of `keras.ops` rather than a layer: those have no place among the stored weights. */
  readonly isFunction: boolean;
}

/** A Sequential or Functional model. */
export interface ModelSpec {
  readonly name: string;
  /** By name, in the order in which Keras lists them. */
  readonly layers: ReadonlyMap<string, LayerSpec>;
  readonly inputs: readonly Reference[];
  readonly outputs: readonly Reference[];
}

/** Classes whose configuration is a model's own. */
export const modelClasses: ReadonlySet<string> = new Set(["Sequential", "Functional", "Model"]);

/**
 * Reads the architecture that Keras stores as JSON (Keras 2 and 3).
 *
 * @param who what to call the model in messages
 * @throws PareError where it is not a Sequential or Functional model
 */
export function parseModel(who: string, json: unknown): ModelSpec {
  if (!isJson(json)) return fail(who, "its architecture is not an object", damaged);
  const className = String(json.class_name);
  if (!modelClasses.has(className)) {
    return fail(who, `it is of class '${className}'`, "Only Sequential and Functional models describe their layers");
  }
  // before Keras 2.2.3 a Sequential's configuration was the list of its layers
  const config = Array.isArray(json.config) ? { layers: json.config } : json.config;
  if (!isJson(config) || !Array.isArray(config.layers)) {
    return fail(who, "its architecture lists no layers", "Save it with model.save(), not a subclass of Model");
  }
  const name = typeof config.name === "string" ? config.name : className.toLowerCase();
  const given = config.layers.map((layer) => parseLayer(who, layer));
  const layers = new Map(given.map((layer) => [layer.name, layer]));
  if (layers.size !== given.length) fail(who, "two of its layers have the same name", damaged);
  if (className === "Sequential" || (className === "Model" && !("output_layers" in config))) {
    return sequential(who, name, given, config);
  }
  const model = {
    name,
    layers,
    inputs: references(who, config.input_layers),
    outputs: references(who, config.output_layers),
  };
  return countedFromZero(
    model,
    given.filter((layer) => modelClasses.has(layer.className)),
  );
}

/** A layer of a list of layers, or inside a wrapper. */
export function parseLayer(who: string, json: unknown): LayerSpec {
  if (!isJson(json) || !isJson(json.config) || typeof json.class_name !== "string") {
    // the configuration of an old Sequential nested in another is a list
    if (isJson(json) && Array.isArray(json.config) && typeof json.class_name === "string") {
      return parseLayer(who, { ...json, config: { name: json.name ?? json.class_name, layers: json.config } });
    }
    return fail(who, "one of its layers is not an object with a class and a configuration", damaged);
  }
  const name = json.name ?? json.config.name;
  if (typeof name !== "string" || name === "") return fail(who, `a layer (${json.class_name}) has no name`, damaged);
  const at = `${who}: layer '${name}' (${json.class_name})`;
  const nodes = json.inbound_nodes ?? [];
  if (!Array.isArray(nodes)) return fail(at, "its connections are no list", damaged);
  return {
    name,
    className: json.class_name,
    settings: settings(at, json.config),
    calls: nodes.map((node) => (isJson(node) ? parseCall(at, node) : parseOldCall(at, node))),
    keras2: !nodes.every(isJson),
    isFunction: typeof json.module === "string" && json.module.startsWith("keras.src.ops"),
  };
}

/** A call as Keras 3 writes it: `{ args, kwargs }` with tensors as objects. */
function parseCall(who: string, node: Json): Call {
  const named = isJson(node.kwargs) ? node.kwargs : {};
  return {
    positional: (listOf(node.args) ?? []).map((value) => parseArgument(who, value)),
    named: Object.fromEntries(Object.entries(named).map(([name, value]) => [name, parseArgument(who, value)])),
  };
}

function parseArgument(who: string, value: unknown): Argument {
  const list = listOf(value);
  if (list) return { kind: "list", items: list.map((item) => parseArgument(who, item)) };
  if (!isJson(value) || value.class_name !== "__keras_tensor__") return { kind: "constant", value };
  const history = isJson(value.config) ? value.config.keras_history : undefined;
  return { kind: "tensor", of: reference(who, history) };
}

/** A call as Keras 2 writes it: a list of `[layer, call, output, named]`, the named ones the same in all of them. */
function parseOldCall(who: string, node: unknown): Call {
  if (!Array.isArray(node)) return fail(who, "one of its connections is no list", damaged);
  // with one input, some versions leave the outer list out
  const entries: unknown[] = typeof node[0] === "string" ? [node] : node;
  const named = Array.isArray(entries[0]) && isJson(entries[0][3]) ? entries[0][3] : {};
  return {
    positional: entries.map((entry) => parseOldArgument(who, entry)),
    named: Object.fromEntries(Object.entries(named).map(([name, value]) => [name, parseOldNamed(who, value)])),
  };
}

function parseOldArgument(who: string, entry: unknown): Argument {
  if (Array.isArray(entry) && entry[0] === "_CONSTANT_VALUE") return { kind: "constant", value: entry[2] };
  return { kind: "tensor", of: reference(who, entry) };
}

function parseOldNamed(who: string, value: unknown): Argument {
  if (isReference(value)) return { kind: "tensor", of: reference(who, value) };
  if (Array.isArray(value) && value.length > 0 && value.every(isReference)) {
    return { kind: "list", items: value.map((item) => parseOldNamed(who, item)) };
  }
  return { kind: "constant", value };
}

function isReference(value: unknown): value is [string, number, number, ...unknown[]] {
  return (
    Array.isArray(value) && value.length >= 3 && typeof value[0] === "string" && isIndex(value[1]) && isIndex(value[2])
  );
}

function isIndex(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function reference(who: string, value: unknown): Reference {
  if (!isReference(value)) {
    return fail(who, `one of its connections is ${JSON.stringify(value)?.slice(0, 100)}`, damaged);
  }
  return { layer: value[0], call: value[1], output: value[2] };
}

/** Inputs or outputs of a model: one reference, a list of them, or an object of them. */
function references(who: string, value: unknown): readonly Reference[] {
  if (isReference(value)) return [reference(who, value)];
  const items = isJson(value) && !listOf(value) ? Object.values(value) : listOf(value);
  if (!items || items.length === 0) return fail(who, "its architecture lacks the inputs or the outputs", damaged);
  return items.map((item) => reference(who, item));
}

/** A chain of layers: each one's call is the one before it. */
function sequential(who: string, name: string, given: readonly LayerSpec[], config: Json): ModelSpec {
  const [first] = given;
  if (!first) return fail(who, "it has no layers", "Add some");
  const whole = first.className === "InputLayer" ? given : [inputOf(who, first, config), ...given];
  const layers = new Map<string, LayerSpec>();
  let last: Reference | undefined;
  for (const layer of whole) {
    const calls: Call[] = last ? [{ positional: [{ kind: "tensor", of: last }], named: {} }] : [];
    if (layers.has(layer.name)) fail(who, `two of its layers are named '${layer.name}'`, damaged);
    layers.set(layer.name, { ...layer, calls });
    last = { layer: layer.name, call: 0, output: 0 };
  }
  return { name, layers, inputs: [{ layer: whole[0]!.name, call: 0, output: 0 }], outputs: [last!] };
}

/** The input that a Sequential leaves to the shape its first layer, or the model, was built with. */
function inputOf(who: string, first: LayerSpec, config: Json): LayerSpec {
  const shape = shapeOf(first) ?? listOf(config.build_input_shape);
  const name = `${first.name}_input`;
  if (!shape) return fail(who, "it does not say its input's shape", "Save it after building it, or add an Input layer");
  const { dtype } = first.settings.json;
  return {
    name,
    className: "InputLayer",
    settings: settings(`${who}: layer '${name}' (InputLayer)`, { name, batch_input_shape: shape, dtype }),
    calls: [],
    keras2: false,
    // it is none of the layers that Keras lists
    isFunction: true,
  };
}

function shapeOf(layer: LayerSpec): readonly unknown[] | undefined {
  const { json } = layer.settings;
  const own = listOf(json.batch_input_shape) ?? listOf(json.batch_shape);
  if (own || !Array.isArray(json.layers)) return own;
  // a nested model: its own first layer knows
  const [inner] = json.layers as unknown[];
  return isJson(inner) && isJson(inner.config) ? shapeOf(parseLayer("", inner)) : undefined;
}
