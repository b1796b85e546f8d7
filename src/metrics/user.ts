import { fail } from "../errors.ts";
import { type Judged, type Metric, type Row, ratioOf } from "./metric.ts";

/**
 * A user's own metric. `exported` is the default export of a module: a {@link Metric}, or a function
 * `(judged) => number | number[]` that scores a batch, with one number a sample (averaged) or one for the batch.
 * A function may carry `better` ("higher" by default), `unit` and `needs` as properties.
 *
 * @throws PareError where it is neither
 */
export function userMetric(exported: unknown, name: string): Metric {
  if (isMetric(exported)) return exported;
  if (typeof exported !== "function") {
    return fail(name, "has no default export that is a metric", "Export a function of a batch, or a Metric");
  }
  const score = exported as ((judged: Judged) => unknown) & Partial<Pick<Metric, "better" | "unit" | "needs">>;
  return {
    name: name.replace(/^.*\//, "").replace(/\.[cm]?[jt]s$/, ""),
    summary: `the user's own (${name})`,
    better: score.better ?? "higher",
    ...(score.unit !== undefined && { unit: score.unit }),
    needs: score.needs ?? "labels",
    rows: (judged) => rowsOf(score(judged), judged.size, name),
    value: (rows) => ratioOf(rows, 0),
  };
}

function isMetric(value: unknown): value is Metric {
  return typeof value === "object" && value !== null && "rows" in value && "value" in value && "better" in value;
}

function rowsOf(result: unknown, size: number, name: string): Row[] {
  const list = typeof result === "number" ? Array<number>(size).fill(result) : result;
  const numbers =
    Array.isArray(list) && list.every((item) => typeof item === "number") ? (list as number[]) : undefined;
  if (!numbers || numbers.length !== size) {
    return fail(name, `gave ${JSON.stringify(result)?.slice(0, 60)} for ${size} samples`, "Give one number a sample");
  }
  return numbers.map((number) => [number]);
}
