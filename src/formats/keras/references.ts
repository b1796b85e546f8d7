import type { Argument, Call, LayerSpec, ModelSpec, Reference } from "./architecture.ts";

/** The outputs of layers that a call takes. */
export function* referencesOf(call: Call): Generator<Reference> {
  yield* within([...call.positional, ...Object.values(call.named)]);
}

function* within(values: readonly Argument[]): Generator<Reference> {
  for (const argument of values) {
    if (argument.kind === "tensor") yield argument.of;
    else if (argument.kind === "list") yield* within(argument.items);
  }
}

/**
 * A model whose references count the calls of nested models from 0, as they are listed.
 *
 * Keras' own count begins with the call that built the nested model, which it does not list. Keras 3 counts so in the list
 * of outputs only, and a Sequential not at all. In Keras 2 a Sequential counts so if it had an input when it was called,
 * which not all versions store; but of `n` calls, each of which is used, number `n` exists only if 0 is not listed.
 *
 * @param nested those of its layers that are models
 */
export function countedFromZero(model: ModelSpec, nested: readonly LayerSpec[]): ModelSpec {
  if (nested.length === 0) return model;
  const calls = [...model.layers.values()].flatMap((layer) => layer.calls);
  const used = new Set([...model.outputs, ...calls.flatMap((call) => [...referencesOf(call)])].map(keyOf));
  const named = (layers: readonly LayerSpec[]): ReadonlySet<string> => new Set(layers.map(({ name }) => name));
  const old = nested.filter(
    (layer) => layer.keras2 && used.has(keyOf({ layer: layer.name, call: layer.calls.length })),
  );
  const functional = nested.filter(({ keras2, className }) => !keras2 && className !== "Sequential");
  const [inCalls, inOutputs] = [named(old), named([...old, ...functional])];
  const layers = [...model.layers].map(([name, layer]): [string, LayerSpec] => [
    name,
    { ...layer, calls: layer.calls.map((call) => lowered(call, inCalls)) },
  ]);
  return { ...model, layers: new Map(layers), outputs: model.outputs.map((of) => before(of, inOutputs)) };
}

function keyOf({ layer, call }: Pick<Reference, "layer" | "call">): string {
  return `${call} ${layer}`;
}

function before(of: Reference, names: ReadonlySet<string>): Reference {
  return names.has(of.layer) ? { ...of, call: of.call - 1 } : of;
}

function lowered({ positional, named }: Call, names: ReadonlySet<string>): Call {
  const argument = (given: Argument): Argument => {
    if (given.kind === "constant") return given;
    if (given.kind === "list") return { kind: "list", items: given.items.map(argument) };
    return { kind: "tensor", of: before(given.of, names) };
  };
  return {
    positional: positional.map(argument),
    named: Object.fromEntries(Object.entries(named).map(([name, given]) => [name, argument(given)])),
  };
}
