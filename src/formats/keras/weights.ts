import { fail } from "../../errors.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { type LayerSpec, type ModelSpec, modelClasses } from "./architecture.ts";
import type { Hdf5 } from "./hdf5.ts";

/** The weights of a model, a layer, or a part of one. */
export interface WeightSource {
  /**
   * The named weights.
   *
   * @param names every weight of the layer in Keras' own order: one of the formats numbers them
   * @throws PareError where one is missing
   */
  read(who: string, names: readonly string[]): readonly Tensor[];
  /** Weights of the layers of this model. */
  layers(model: ModelSpec): (layer: LayerSpec) => WeightSource;
  /**
   * Weights of an object inside this layer.
   *
   * @param attribute the name of the object's variable in Keras' code
   * @param prefix how the object's own name begins
   */
  part(attribute: string, prefix: string): WeightSource;
}

const noWeights = "The file holds an architecture without its weights: save the whole model";

/**
 * The weights in an `.h5` file of a whole model: a group a layer, whose attribute lists the weights by name, those of
 * nested models included.
 */
export function namedWeights(file: Hdf5, root: string): WeightSource {
  return {
    read: (who) => fail(who, "a model has no weights by itself"),
    part: () => namedWeights(file, root),
    layers: () => (layer) => {
      const group = `${root}/${layer.name}`;
      const names = file.has(group) ? listed(file, group, "weight_names") : [];
      return named(
        file,
        names.map((name) => ({ name, path: `${group}/${name}` })),
      );
    },
  };
}

/** A list of texts; one too long for an attribute is split over several, numbered from 0. */
function listed(file: Hdf5, path: string, attribute: string): string[] {
  const whole = file.texts(path, attribute);
  if (whole) return [...whole];
  const found: string[] = [];
  for (let i = 0; ; i++) {
    const part = file.texts(path, `${attribute}${i}`);
    if (!part) return found;
    found.push(...part);
  }
}

interface Named {
  readonly name: string;
  readonly path: string;
}

function named(file: Hdf5, entries: readonly Named[]): WeightSource {
  const inside = (prefix: string): readonly Named[] => entries.filter(({ name }) => `/${name}`.includes(prefix));
  return {
    layers:
      () =>
      ({ name, className }) => {
        const own = inside(`/${name}/`);
        // the names of weights do not have those of all the models around them
        return named(file, own.length === 0 && modelClasses.has(className) ? entries : own);
      },
    part: (_, prefix) => named(file, inside(`/${prefix}`)),
    read(who, names) {
      const found = names.map((name) => entries.filter((entry) => baseName(entry.name) === name));
      // before Keras 2 weights had other names, in the same order
      if (found.every(({ length }) => length === 0) && entries.length === names.length) {
        return entries.map(({ path }) => file.dataset(path));
      }
      return found.map((same, i) => {
        if (same.length === 1) return file.dataset(same[0]!.path);
        if (entries.length === 0) return fail(who, "its weights are missing", noWeights);
        const has = entries.map(({ name }) => `'${name}'`).join(", ");
        const what = same.length === 0 ? `its weight '${names[i]}' is missing` : `it has several weights '${names[i]}'`;
        return fail(who, `${what}; the file has ${has.slice(0, 200)}`, "Give the layers names of their own");
      });
    },
  };
}

/** "conv/kernel:0" is "kernel". */
function baseName(name: string): string {
  return name.slice(name.lastIndexOf("/") + 1).replace(/:\d+$/, "");
}

/**
 * The weights in a `.keras` archive: numbered, in groups named after the classes of the objects that hold them
 * ("layers/conv2d_1/vars/0").
 */
export function numberedWeights(file: Hdf5, path = ""): WeightSource {
  return {
    read: (who, names) =>
      names.map((name, i) => {
        const at = `${path}/vars/${i}`;
        return file.has(at) ? file.dataset(at) : fail(who, `its weight '${name}' ('${at}') is missing`, noWeights);
      }),
    part: (attribute) => numberedWeights(file, `${path}/${attribute}`),
    layers(model) {
      const groups = groupNames(model.layers.values());
      return ({ name }) => numberedWeights(file, `${path}/layers/${groups.get(name)}`);
    },
  };
}

/** The group of each layer: its class in snake case, numbered from the second of its class on. */
function groupNames(layers: Iterable<LayerSpec>): ReadonlyMap<string, string> {
  const counts = new Map<string, number>();
  const names = new Map<string, string>();
  for (const { name, className, isFunction } of layers) {
    if (isFunction) continue;
    const stem = snakeCase(className);
    const count = counts.get(stem) ?? 0;
    counts.set(stem, count + 1);
    names.set(name, count === 0 ? stem : `${stem}_${count}`);
  }
  return names;
}

/** "DepthwiseConv2D" is "depthwise_conv2d" (keras.src.utils.naming.to_snake_case). */
function snakeCase(name: string): string {
  return name
    .replace(/\W+/g, "")
    .replace(/(.)([A-Z][a-z]+)/g, "$1_$2")
    .replace(/([a-z])([A-Z])/g, "$1_$2")
    .toLowerCase();
}
