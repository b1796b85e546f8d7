import { fail } from "../../errors.ts";

/** A JSON object. */
export type Json = Readonly<Record<string, unknown>>;

/** Reads the settings of a layer out of JSON that may say anything. Absent and null settings take the fallback. */
export interface Settings {
  /** What to call their owner in messages. */
  readonly who: string;
  readonly json: Json;
  number(name: string, fallback?: number): number;
  flag(name: string, fallback?: boolean): boolean;
  text(name: string, fallback?: string): string;
  /** A list of whole numbers; one number stands for `count` of it. */
  integers(name: string, count?: number, fallback?: readonly number[]): readonly number[];
  /** Numbers however deeply nested, in order: a scalar or an array of constants. Undefined where there are none. */
  values(name: string): readonly number[] | undefined;
  object(name: string): Json | undefined;
}

/** Whether a value is a JSON object. */
export function isJson(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Keras writes tuples as lists, or (from 3 on, in places) as objects of class "__tuple__". */
export function listOf(value: unknown): readonly unknown[] | undefined {
  if (Array.isArray(value)) return value;
  return isJson(value) && value.class_name === "__tuple__" && Array.isArray(value.items) ? value.items : undefined;
}

/**
 * Settings from JSON.
 *
 * @throws PareError (each reader) where a setting is missing or of another kind
 */
export function settings(who: string, json: Json): Settings {
  const given = (name: string): unknown => (Object.hasOwn(json, name) ? (json[name] ?? undefined) : undefined);
  const wrong = (name: string, kind: string): never =>
    fail(who, `its setting '${name}' should be ${kind}, got ${JSON.stringify(given(name))?.slice(0, 100)}`, damaged);
  function pick<T>(name: string, kind: string, accept: (value: unknown) => T | undefined, fallback?: T): T {
    const value = given(name);
    if (value === undefined && fallback !== undefined) return fallback;
    return accept(value) ?? wrong(name, kind);
  }
  const number = (value: unknown): number | undefined =>
    typeof value === "number" && Number.isFinite(value) ? value : undefined;
  const integer = (value: unknown): number | undefined => (Number.isSafeInteger(value) ? (value as number) : undefined);
  return {
    who,
    json,
    number: (name, fallback) => pick(name, "a number", number, fallback),
    flag: (name, fallback) => pick(name, "true or false", (v) => (typeof v === "boolean" ? v : undefined), fallback),
    text: (name, fallback) => pick(name, "text", (v) => (typeof v === "string" ? v : undefined), fallback),
    integers: (name, count, fallback) =>
      pick(
        name,
        count === undefined ? "whole numbers" : `${count} whole numbers`,
        (value) => {
          const single = integer(value);
          if (single !== undefined) return new Array<number>(count ?? 1).fill(single);
          const list = listOf(value)?.map(integer);
          if (!list || list.includes(undefined) || (count !== undefined && list.length !== count)) return undefined;
          return list as number[];
        },
        fallback,
      ),
    values(name) {
      const value = given(name);
      if (value === undefined) return undefined;
      const flat = [listOf(value) ?? value].flat(Number.POSITIVE_INFINITY).map(number);
      return flat.includes(undefined) ? wrong(name, "numbers") : (flat as number[]);
    },
    object: (name) => {
      const value = given(name);
      return isJson(value) ? value : undefined;
    },
  };
}

/** What to do about JSON that is not as Keras writes it. */
export const damaged = "The file is damaged, or was not written by Keras";
