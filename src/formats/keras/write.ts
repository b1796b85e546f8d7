import { didYouMean, fail } from "../../errors.ts";
import type { DType } from "../../tensor/dtype.ts";
import {
  type Argument,
  type Call,
  type LayerSpec,
  type ModelSpec,
  modelClasses,
  parseLayer,
  parseModel,
  type Reference,
} from "./architecture.ts";
import type { Builder, KerasTensor, Shape } from "./builder.ts";
import { layerRules, ruleOf, takesIntegers } from "./layers/index.ts";
import type { LayerCall } from "./layers/layer.ts";
import { referencesOf } from "./references.ts";
import { listOf } from "./settings.ts";
import type { WeightSource } from "./weights.ts";

/** What is the same for the whole of a file. */
export interface Scope {
  readonly b: Builder;
  readonly who: string;
  /** Major version of the Keras that wrote the file. */
  readonly keras: number;
  /** Whether four-axis inputs of a channels-last model are to be given with their channels on axis 1. */
  readonly channelsFirst: boolean;
  /** How many calls of layers nested models have come to so far. */
  readonly nested: { calls: number };
}

/** Far above any model; keeps models that call each other several times, level upon level, from filling all of memory. */
const mostNestedCalls = 100_000;

/**
 * Writes a model's layers as nodes, those that its outputs need.
 *
 * @param given the inputs of a nested model; the graph's own where absent
 * @param prefix what names of nodes and of weights begin with: the models around this one, each with "/"
 * @returns its outputs
 * @throws PareError naming the layer that is not supported or does not fit
 */
export function writeModel(
  scope: Scope,
  model: ModelSpec,
  weights: WeightSource,
  prefix = { nodes: "", weights: "" },
  given?: readonly KerasTensor[],
): readonly KerasTensor[] {
  if (given && given.length !== model.inputs.length) {
    fail(scope.who, `model '${model.name}' takes ${model.inputs.length} inputs, it is called with ${given.length}`);
  }
  const weightsOf = weights.layers(model);
  const made = new Map<string, readonly KerasTensor[]>();
  // the order of the inputs is the model's, not that in which its layers are listed
  for (const [i, { layer }] of model.inputs.entries()) {
    const spec = layerOf(scope, model, layer);
    made.set(keyOf(layer, 0), [given?.[i] ?? writeInput(scope, spec)]);
  }
  for (const wanted of model.outputs) {
    for (const [spec, index] of callsBefore(scope, model, wanted, made)) {
      const value = (argument: Argument): unknown => resolve(scope, made, argument);
      const name = `${prefix.nodes}${spec.name}${index === 0 ? "" : `/call_${index}`}`;
      const target = { name, weightName: `${prefix.weights}${spec.name}`, weights: weightsOf(spec) };
      made.set(keyOf(spec.name, index), writeLayer(scope, spec, target, spec.calls[index]!, value));
    }
  }
  return model.outputs.map((wanted) => outputOf(scope, made, wanted));
}

function keyOf(layer: string, call: number): string {
  return `${call} ${layer}`;
}

function layerOf({ who }: Scope, model: ModelSpec, name: string): LayerSpec {
  return model.layers.get(name) ?? fail(who, `its architecture has no layer '${name}'`, "The file is damaged");
}

function outputOf({ who }: Scope, made: ReadonlyMap<string, readonly KerasTensor[]>, of: Reference): KerasTensor {
  const found = made.get(keyOf(of.layer, of.call))?.[of.output];
  return found ?? fail(who, `layer '${of.layer}' has no output ${of.output}`, "The file is damaged");
}

/** The calls not made yet that an output needs, in an order in which they can be made. */
function callsBefore(
  scope: Scope,
  model: ModelSpec,
  wanted: Reference,
  made: ReadonlyMap<string, unknown>,
): readonly (readonly [LayerSpec, number])[] {
  const order: [LayerSpec, number][] = [];
  const [open, done] = [new Set<string>(), new Set<string>()];
  const pending: { readonly key: string; readonly call: [LayerSpec, number]; readonly needs: Iterator<Reference> }[] =
    [];
  const enter = ({ layer, call }: Reference): void => {
    const key = keyOf(layer, call);
    if (done.has(key) || made.has(key)) return;
    const spec = layerOf(scope, model, layer);
    if (open.has(key)) fail(spec.settings.who, "it depends on its own output", "The file is damaged");
    const found = spec.calls[call];
    if (!found) fail(spec.settings.who, `call ${call} of it is used and not described`, "The file is damaged");
    open.add(key);
    pending.push({ key, call: [spec, call], needs: referencesOf(found) });
  };
  enter(wanted);
  for (let top = pending.at(-1); top; top = pending.at(-1)) {
    const next = top.needs.next();
    if (!next.done) {
      enter(next.value);
      continue;
    }
    pending.pop();
    done.add(top.key);
    order.push(top.call);
  }
  return order;
}

function resolve(scope: Scope, made: ReadonlyMap<string, readonly KerasTensor[]>, argument: Argument): unknown {
  if (argument.kind === "constant") return argument.value;
  if (argument.kind === "list") return argument.items.map((item) => resolve(scope, made, item));
  return outputOf(scope, made, argument.of);
}

/** Where a call's nodes and weights belong. */
type Target = Pick<LayerCall, "name" | "weightName" | "weights">;

function isTensor(value: unknown): value is KerasTensor {
  return typeof value === "object" && value !== null && "order" in value && "value" in value;
}

function writeLayer(
  scope: Scope,
  spec: LayerSpec,
  target: Target,
  call: Call,
  value: (argument: Argument) => unknown,
): readonly KerasTensor[] {
  const float = (item: unknown): unknown => {
    if (Array.isArray(item)) return item.map(float);
    return isTensor(item) && !takesIntegers.has(spec.className) ? asFloat(scope, item) : item;
  };
  const ready = (argument: Argument): unknown => float(value(argument));
  const positional = call.positional.map(ready).flat(4);
  const operands = positional.filter((item) => isTensor(item) || typeof item === "number");
  const named = Object.fromEntries(Object.entries(call.named).map(([name, argument]) => [name, ready(argument)]));
  return writeCall(scope, spec, target, operands as (KerasTensor | number)[], named);
}

function asFloat({ b }: Scope, t: KerasTensor): KerasTensor {
  if (t.dtype === "float32") return t;
  return { ...t, dtype: "float32", value: b.op(`${t.value.replace(/:\d+$/, "")}/Cast`, "Cast", [t.value], { to: 1 }) };
}

function writeCall(
  scope: Scope,
  spec: LayerSpec,
  target: Target,
  operands: readonly (KerasTensor | number)[],
  named: LayerCall["named"] = {},
): readonly KerasTensor[] {
  const inputs = operands.filter(isTensor);
  if (modelClasses.has(spec.className)) {
    const model = parseModel(spec.settings.who, { class_name: spec.className, config: spec.settings.json });
    countCalls(scope, model);
    const prefix = { nodes: `${target.name}/`, weights: `${target.weightName}/` };
    return writeModel(scope, model, target.weights, prefix, inputs);
  }
  const rule = ruleOf(spec.className, spec.isFunction);
  if (!rule) return unknownLayer(spec);
  const c: LayerCall = {
    ...target,
    className: spec.className,
    settings: spec.settings,
    named,
    inputs,
    operands,
    keras: scope.keras,
    b: scope.b,
    wrapped: (layer, part, given) => {
      const inner = parseLayer(spec.settings.who, layer);
      const weights = target.weights.part(part, "");
      return writeCall(scope, inner, { ...target, weights }, given);
    },
  };
  const out = rule(c);
  const outputs = Array.isArray(out) ? (out as readonly KerasTensor[]) : [out as KerasTensor];
  const masked = inputs.some((t) => t.masked);
  return masked ? outputs.map((t) => ({ masked, ...t })) : outputs;
}

/** Every call of a nested model is written out. */
function countCalls({ who, nested }: Scope, { layers }: ModelSpec): void {
  for (const { calls } of layers.values()) nested.calls += Math.max(1, calls.length);
  if (nested.calls <= mostNestedCalls) return;
  const hint = "Save a model that calls them less often";
  fail(who, `its nested models come to more than ${mostNestedCalls} layers once each call is written out`, hint);
}

function unknownLayer({ className, settings }: LayerSpec): never {
  const near = didYouMean(className, Object.keys(layerRules));
  const hint = className === "Lambda" ? "What it does is Python code: replace it with layers of Keras" : near;
  return fail(settings.who, "this class of layer is not supported", hint || "Replace it with layers of Keras");
}

const inputTypes: ReadonlySet<string> = new Set<DType>(["bool", "int8", "uint8", "int16", "uint16", "int32", "int64"]);

/** An input of the graph. */
function writeInput(scope: Scope, spec: LayerSpec): KerasTensor {
  const { settings } = spec;
  const given = listOf(settings.json.batch_input_shape) ?? listOf(settings.json.batch_shape);
  const sizes = given?.map((size) =>
    size === null || (Number.isSafeInteger(size) && (size as number) > 0) ? size : undefined,
  );
  if (!sizes || sizes.length === 0 || sizes.includes(undefined)) {
    return fail(settings.who, `its shape is ${JSON.stringify(given ?? null)}`, "The file is damaged");
  }
  const shape = sizes as Shape;
  const stated = String(settings.json.dtype ?? "float32");
  const dtype = inputTypes.has(stated) ? (stated as DType) : "float32";
  if (stated === "string") fail(settings.who, "it takes text", "Cut the model behind its text layers");
  const first = scope.channelsFirst && shape.length >= 3;
  const kept = first ? [shape[0]!, shape.at(-1)!, ...shape.slice(1, -1)] : shape;
  const dims = kept.map((size, axis) => size ?? (axis === 0 ? "N" : null));
  const value = scope.b.input(spec.name, { type: { kind: "tensor", dtype, shape: dims } });
  return { value, shape, dtype, order: first ? "channels-first" : "keras" };
}
